// Checks rendered manifests of Parlance: against the API of Kubernetes as its server does, against each other, and against
// the binaries that they start. Then plants mistakes, each of which must be found. checks/kubernetes.py
// renders the manifests and runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

func main() {
	binaries := flag.String("binaries", "", "folder of user-service and message-service")
	readme := flag.String("readme", "", "what operators read; Secrets and sums must be in it")
	prometheus := flag.String("prometheus", "", "the example of how a Prometheus finds the pods")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "check --binaries FOLDER --readme FILE --prometheus FILE NAME=RENDERED-FILE...")
		flag.PrintDefaults()
	}
	flag.Parse()
	readmeText, err := os.ReadFile(*readme)
	if err != nil || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}

	discovery, err := NewDiscovery(*prometheus)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	checker := Checker{binaries: NewBinaries(*binaries), discovery: discovery, nats: Nats{}, readme: string(readmeText)}
	failed := false
	for _, argument := range flag.Args() {
		name, path, _ := strings.Cut(argument, "=")
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		failed = !checker.holds(name, string(text)) || failed
		failed = !checker.findsMistakes(name, string(text)) || failed
	}
	if failed {
		os.Exit(1)
	}
}

// Checker holds the parts that manifests are checked against.
type Checker struct {
	binaries  *Binaries
	discovery *Discovery
	nats      Nats
	readme    string
}

// problems returns all problems of rendered manifests.
func (checker Checker) problems(name, text string) []string {
	objects, problems := Decode(text)
	if len(problems) > 0 {
		return problems
	}
	problems = append(problems, CheckRelations(objects)...)
	problems = append(problems, CheckNetwork(objects)...)
	problems = append(problems, CheckPods(objects)...)
	problems = append(problems, CheckBudgets(name, objects, checker.readme)...)
	problems = append(problems, checker.checkSettings(objects)...)
	problems = append(problems, checker.discovery.Check(objects)...)
	problems = append(problems, checker.nats.Check(objects)...)
	return problems
}

func (checker Checker) holds(name, text string) bool {
	problems := checker.problems(name, text)
	for _, problem := range problems {
		fmt.Printf("%s: %s\n", name, problem)
	}
	if len(problems) == 0 {
		fmt.Printf("%s: %d objects hold\n", name, strings.Count("\n"+text, "\nkind: "))
	}
	return len(problems) == 0
}

func (checker Checker) findsMistakes(name, text string) bool {
	mistakes := slices.Concat(Mistakes, MistakesOf[name])
	missed := slices.DeleteFunc(slices.Clone(mistakes), func(mistake Mistake) bool {
		wrong, possible := mistake.made(text)
		if !possible {
			fmt.Printf("%s: the mistake %q cannot be planted: the manifest does not contain %q\n", name, mistake.name, mistake.right)
			return false
		}
		problems := strings.Join(checker.problems(name, wrong), "\n")
		if !strings.Contains(problems, mistake.problem) {
			fmt.Printf("%s: the mistake %q is not found; reported: %q\n", name, mistake.name, problems)
			return false
		}
		return true
	})
	fmt.Printf("%s: %d of %d planted mistakes were found\n", name, len(mistakes)-len(missed), len(mistakes))
	return len(missed) == 0
}
