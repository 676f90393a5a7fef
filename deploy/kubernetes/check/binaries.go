package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const patience = 20 * time.Second

var settingInHelp = regexp.MustCompile(`\[env: ([A-Z0-9_]+)=?\]`)

// Settings for a start without a network: nothing leaves loopback.
var onLoopback = map[string]string{
	"LISTEN":           "127.0.0.1:0",
	"ADMIN_LISTEN":     "127.0.0.1:0",
	"DATABASE_URL":     "postgres://user:password@127.0.0.1:1/nowhere",
	"USER_SERVICE_URL": "http://127.0.0.1:1",
}

// Binaries runs the binaries of the services, each command at most once.
type Binaries struct {
	folder  string
	help    map[string][]string
	answers map[string]error
}

// NewBinaries returns the binaries of a folder.
func NewBinaries(folder string) *Binaries {
	return &Binaries{folder: folder, help: map[string][]string{}, answers: map[string]error{}}
}

// Settings returns the names of the variables in the help of a command.
func (binaries *Binaries) Settings(binary, command string) ([]string, error) {
	key := binary + " " + command
	if known, ok := binaries.help[key]; ok {
		return known, nil
	}
	asked := exec.Command(filepath.Join(binaries.folder, binary), command, "--help")
	asked.Env = []string{}
	output, err := asked.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s --help: %w: %s", binary, command, err, output)
	}
	var known []string
	for _, found := range settingInHelp.FindAllStringSubmatch(string(output), -1) {
		known = append(known, found[1])
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("%s %s --help lists no settings", binary, command)
	}
	binaries.help[key] = known
	return known, nil
}

// Answers starts a service with these settings, on loopback and without a database, checks its health under each name, and
// reads its metrics as Prometheus does. A value that the service refuses, and a name or path that it does not know, are errors.
func (binaries *Binaries) Answers(binary, command string, settings map[string]string, names []string, metrics string) error {
	var environment []string
	for name, value := range settings {
		if local, ok := onLoopback[name]; ok {
			value = local
		}
		environment = append(environment, name+"="+value)
	}
	slices.Sort(environment)
	key := strings.Join(slices.Concat([]string{binary, command}, environment, names, []string{metrics}), "\n")
	if answer, ok := binaries.answers[key]; ok {
		return answer
	}
	answer := binaries.ask(binary, command, environment, names, metrics)
	binaries.answers[key] = answer
	return answer
}

func (binaries *Binaries) ask(binary, command string, environment, names []string, metrics string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	process := exec.CommandContext(ctx, filepath.Join(binaries.folder, binary), command)
	process.Env = environment
	log, err := process.StderrPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	defer func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	}()
	address, admin, err := listening(bufio.NewScanner(log))
	if err != nil {
		return fmt.Errorf("%s %s: %w", binary, command, err)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	for _, name := range names {
		_, wrong := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("the health of %s, asked for %q: %w", binary, name, wrong))
		}
	}
	return errors.Join(err, scrape(ctx, "http://"+admin+metrics))
}

func scrape(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("metrics at %s: %s", request.URL.Path, answer.Status)
	}
	return nil
}

// listening waits for the addresses of gRPC and of metrics in the log. A process that exits instead has logged the reason. Later
// output is not read: the process is ended long before the pipe is full.
func listening(lines *bufio.Scanner) (address, admin string, err error) {
	var output []string
	for lines.Scan() {
		var line struct{ Message, Local, Address string }
		output = append(output, lines.Text())
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if strings.HasPrefix(line.Message, "metrics are at") {
			admin = line.Address
		}
		if line.Message == "listening" {
			address = line.Local
		}
		if address != "" && admin != "" {
			return address, admin, nil
		}
	}
	return "", "", fmt.Errorf("it does not listen on both ports: %s", strings.Join(output, "; "))
}

func init() {
	// A variable of the shell must not replace a setting.
	for name := range onLoopback {
		_ = os.Unsetenv(name)
	}
}
