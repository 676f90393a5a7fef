package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// From the end of DRAIN_TIMEOUT to the end of the process: streams are dropped, connections closed, traces sent.
	afterDrain = 10 * time.Second
	// A connection of a reader that has stopped reading: 64 KiB for it, 36 KiB for the connection.
	perConnection = 100 << 10
	// An idle process.
	idleProcess = 64 << 20
	// The bus over PostgreSQL: one connection to notify, one to listen.
	perBus = 2
	// Each writer and its lane.
	perWriter = 2
	// Readiness, the poll of the outbox, trimming it, and a call that is being cancelled.
	perProcess = 4
	// `migrate` of a new pod.
	perMigration = 1
)

// CheckBudgets compares the resources that replicas may use with their limits.
func CheckBudgets(name string, objects Objects, readme string) (problems []string) {
	connections := 0
	for _, deployment := range objects.Deployments {
		if objects.binaryOf(deployment) == "" {
			continue
		}
		problem := func(format string, parts ...any) {
			problems = append(problems, fmt.Sprintf("Deployment %s: ", deployment.Name)+fmt.Sprintf(format, parts...))
		}
		container := deployment.Spec.Template.Spec.Containers[0]
		settings := objects.settings(deployment, container)
		drain, err := time.ParseDuration(settings["DRAIN_TIMEOUT"])
		grace := time.Duration(*deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if err != nil || grace < drain+afterDrain {
			problem("a grace of %s is too short for a DRAIN_TIMEOUT of %q", grace, settings["DRAIN_TIMEOUT"])
		}
		live, err := resource.ParseQuantity(strings.TrimSuffix(settings["LIVE_LOG_BYTES"]+"0", "B0"))
		open, wrong := strconv.ParseInt(settings["MAX_CONNECTIONS"], 10, 64)
		if err != nil || wrong != nil {
			problem("LIVE_LOG_BYTES or MAX_CONNECTIONS is no number")
		}
		limit := container.Resources.Limits.Memory()
		if needs := idleProcess + live.Value() + open*perConnection; limit.Value() < needs {
			problem("%s are not enough memory for what its settings allow, %d MiB", limit, needs>>20)
		}
		connections += objects.connections(deployment, settings)
	}
	if row := fmt.Sprintf("| `%s` | %d |", name, connections); !strings.Contains(readme, row) {
		problems = append(problems, fmt.Sprintf("the README does not say %q: the connections that all replicas may take", row))
	}
	return problems
}

// connections returns the number of connections to PostgreSQL of all replicas, of which a rollout runs one more than planned.
func (objects Objects) connections(deployment *appsv1.Deployment, settings map[string]string) int {
	number := func(name string) int {
		value, _ := strconv.Atoi(settings[name])
		return value
	}
	each := number("DATABASE_CONNECTIONS") + perProcess + perWriter*number("WRITERS")
	if settings["BUS_URL"] == "postgres" {
		each += perBus
	}
	replicas := 0
	for _, scaler := range objects.Autoscalers {
		if scaler.Spec.ScaleTargetRef.Name == deployment.Name {
			replicas = int(scaler.Spec.MaxReplicas)
		}
	}
	return (replicas+deployment.Spec.Strategy.RollingUpdate.MaxSurge.IntValue())*each + perMigration
}
