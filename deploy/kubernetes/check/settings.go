package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// checkSettings compares containers with the binaries that they start: names and values of settings, names of health services,
// and the sources of secrets.
func (checker Checker) checkSettings(objects Objects) (problems []string) {
	for _, deployment := range objects.Deployments {
		if objects.binaryOf(deployment) == "" {
			continue
		}
		problem := func(format string, parts ...any) {
			problems = append(problems, fmt.Sprintf("Deployment %s: ", deployment.Name)+fmt.Sprintf(format, parts...))
		}
		for _, container := range containers(deployment.Spec.Template.Spec) {
			if len(container.Command) != 2 || path.Dir(container.Command[0]) != "/usr/local/bin" || len(container.Args) > 0 {
				problem("%s: the command is %q, not a binary of the image with a subcommand", container.Name, container.Command)
				continue
			}
			settings := objects.settings(deployment, container)
			binary, command := path.Base(container.Command[0]), container.Command[1]
			known, err := checker.binaries.Settings(binary, command)
			if err != nil {
				problem("%s: %v", container.Name, err)
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(settings)) {
				if !slices.Contains(known, name) {
					problem("%s: %s is not a setting of %s %s", container.Name, name, binary, command)
				}
			}
			problems = append(problems, checker.checkSecrets(deployment.Name, container)...)
		}
		problems = append(problems, checker.checkProbes(objects, deployment)...)
	}
	return problems
}

// checkSecrets proves that the database URL is from a Secret whose name and key are documented.
func (checker Checker) checkSecrets(name string, container corev1.Container) (problems []string) {
	problem := func(format string, parts ...any) {
		problems = append(problems, fmt.Sprintf("Deployment %s: %s: ", name, container.Name)+fmt.Sprintf(format, parts...))
	}
	database := false
	for _, variable := range container.Env {
		from := variable.ValueFrom
		if from == nil || from.SecretKeyRef == nil {
			problem("%s is not from a Secret; values that are not secret belong in settings.env", variable.Name)
			continue
		}
		database = database || variable.Name == "DATABASE_URL"
		created := fmt.Sprintf("create secret generic %s", from.SecretKeyRef.Name)
		if !strings.Contains(checker.readme, created) || !strings.Contains(checker.readme, "--from-literal="+from.SecretKeyRef.Key+"=") {
			problem("the README does not say how to create the Secret %s with the key %s", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
		}
	}
	if !database {
		problem("DATABASE_URL is not set")
	}
	return problems
}

// checkProbes calls the running binary, with the settings of the container, under every name that a probe uses, and reads its metrics.
func (checker Checker) checkProbes(objects Objects, deployment *appsv1.Deployment) (problems []string) {
	problem := func(format string, parts ...any) {
		problems = append(problems, fmt.Sprintf("Deployment %s: ", deployment.Name)+fmt.Sprintf(format, parts...))
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	grpcPort := portOf(objects.settings(deployment, container)["LISTEN"])
	var names []string
	for kind, probe := range map[string]*corev1.Probe{
		"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe,
	} {
		if probe == nil || probe.GRPC == nil || probe.GRPC.Service == nil {
			problem("the %s probe does not ask health by a name", kind)
			continue
		}
		if probe.GRPC.Port != grpcPort {
			problem("the %s probe asks port %d, the service listens on %d", kind, probe.GRPC.Port, grpcPort)
		}
		names = append(names, *probe.GRPC.Service)
		if *probe.GRPC.Service != kind {
			problem("the %s probe asks for %s", kind, *probe.GRPC.Service)
		}
	}
	slices.Sort(names)
	settings := objects.settings(deployment, container)
	metrics := deployment.Spec.Template.Annotations["prometheus.io/path"]
	if err := checker.binaries.Answers(path.Base(container.Command[0]), container.Command[1], settings, names, metrics); err != nil {
		problem("%v", err)
	}
	return problems
}

// settings returns the variables that a container sees; those from Secrets are empty.
func (objects Objects) settings(deployment *appsv1.Deployment, container corev1.Container) map[string]string {
	settings := map[string]string{}
	for _, source := range container.EnvFrom {
		for _, candidate := range objects.ConfigMaps {
			if source.ConfigMapRef != nil && candidate.Name == source.ConfigMapRef.Name {
				maps.Copy(settings, candidate.Data)
			}
		}
	}
	for _, variable := range container.Env {
		settings[variable.Name] = variable.Value
	}
	return settings
}

// binaryOf returns the binary of Parlance that a Deployment runs, if it runs one.
func (objects Objects) binaryOf(deployment *appsv1.Deployment) string {
	container := deployment.Spec.Template.Spec.Containers[0]
	if image, _, _ := strings.Cut(path.Base(container.Image), ":"); image != "parlance" || len(container.Command) == 0 {
		return ""
	}
	return path.Base(container.Command[0])
}
