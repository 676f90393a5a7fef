package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

const job = "parlance"

var notInLabels = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// Discovery evaluates the example of a scrape configuration with promtool, once for equal pods.
type Discovery struct {
	scraping map[string]any
	answers  map[string][]string
}

// NewDiscovery reads the example.
func NewDiscovery(path string) (*Discovery, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config struct {
		Scraping []map[string]any `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(config.Scraping) != 1 || config.Scraping[0]["job_name"] != job || config.Scraping[0]["kubernetes_sd_configs"] == nil {
		return nil, fmt.Errorf("%s does not discover the pods of %s", path, job)
	}
	return &Discovery{scraping: config.Scraping[0], answers: map[string][]string{}}, nil
}

// Check proves that each service is found once, under the job that alerts and dashboard expect. The labels that Kubernetes
// reports of the pods replace its discovery, which Debian's promtool is built without.
func (discovery *Discovery) Check(objects Objects) (problems []string) {
	var targets []map[string]any
	var wanted []string
	for _, deployment := range objects.Deployments {
		targets = append(targets, discovered(deployment)...)
		if binary := objects.binaryOf(deployment); binary != "" {
			wanted = append(wanted, "parlance-"+binary)
		}
	}
	found, err := discovery.jobs(targets)
	if err != nil {
		return []string{err.Error()}
	}
	slices.Sort(wanted)
	if !slices.Equal(found, wanted) {
		problems = append(problems, fmt.Sprintf("Prometheus finds the jobs %q, not %q", found, wanted))
	}
	return problems
}

// discovered returns the targets that Kubernetes reports for the pods of a Deployment: one for each port.
func discovered(deployment *appsv1.Deployment) (targets []map[string]any) {
	for _, container := range containers(deployment.Spec.Template.Spec) {
		for _, port := range container.Ports {
			labels := map[string]string{
				"__meta_kubernetes_namespace":               namespace,
				"__meta_kubernetes_pod_name":                deployment.Name + "-0",
				"__meta_kubernetes_pod_container_port_name": port.Name,
			}
			for name, value := range deployment.Spec.Template.Labels {
				labels["__meta_kubernetes_pod_label_"+notInLabels.ReplaceAllString(name, "_")] = value
			}
			address := fmt.Sprintf("127.0.0.1:%d", port.ContainerPort)
			targets = append(targets, map[string]any{"targets": []string{address}, "labels": labels})
		}
	}
	return targets
}

// jobs returns the jobs of the targets that are kept.
func (discovery *Discovery) jobs(targets []map[string]any) ([]string, error) {
	scraping := map[string]any{}
	for name, value := range discovery.scraping {
		if name != "kubernetes_sd_configs" {
			scraping[name] = value
		}
	}
	scraping["static_configs"] = targets
	text, err := yaml.Marshal(map[string]any{"scrape_configs": []any{scraping}})
	if err != nil {
		return nil, err
	}
	if jobs, ok := discovery.answers[string(text)]; ok {
		return jobs, nil
	}
	folder, err := os.MkdirTemp("", "parlance-kubernetes-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	output, err := exec.Command("promtool", "check", "service-discovery", "--timeout=1s", file, job).Output()
	if err != nil {
		return nil, fmt.Errorf("promtool: %w: %s", err, output)
	}
	var kept []struct{ Labels map[string]string }
	if err := json.Unmarshal(output[strings.IndexByte(string(output), '['):], &kept); err != nil {
		return nil, fmt.Errorf("promtool: %w: %s", err, output)
	}
	jobs := []string{}
	for _, target := range kept {
		if name, ok := target.Labels["job"]; ok {
			jobs = append(jobs, name)
		}
	}
	slices.Sort(jobs)
	discovery.answers[string(text)] = jobs
	return jobs, nil
}
