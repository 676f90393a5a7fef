package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// CheckRelations compares selectors with labels, and references by name with the objects that exist.
func CheckRelations(objects Objects) (problems []string) {
	problem := func(format string, parts ...any) { problems = append(problems, fmt.Sprintf(format, parts...)) }
	for _, service := range objects.Services {
		pods := objects.selected(&metav1.LabelSelector{MatchLabels: service.Spec.Selector})
		if len(pods) != 1 || pods[0].Name != service.Name {
			problem("Service %s does not select the pods of Deployment %s alone", service.Name, service.Name)
			continue
		}
		for _, port := range service.Spec.Ports {
			number, ok := containerPort(pods[0], port.TargetPort)
			if !ok {
				problem("Service %s: no container has the port %s", service.Name, port.TargetPort.String())
			} else if number != port.Port {
				problem("Service %s: port %d leads to %d; without a cluster IP they must be the same", service.Name, port.Port, number)
			}
		}
	}
	for _, deployment := range objects.Deployments {
		name := deployment.Name
		if !slices.ContainsFunc(objects.Services, func(service *corev1.Service) bool { return service.Name == name }) {
			problem("Deployment %s has no Service", name)
		}
		if pods := objects.selected(deployment.Spec.Selector); len(pods) != 1 {
			problem("Deployment %s: its selector selects %d Deployments' pods", name, len(pods))
		}
		for _, constraint := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
			if pods := objects.selected(constraint.LabelSelector); len(pods) != 1 || pods[0].Name != name {
				problem("Deployment %s: the constraint over %s does not select its own pods", name, constraint.TopologyKey)
			}
		}
		if objects.binaryOf(deployment) == "" {
			continue
		}
		problems = append(problems, objects.checkScaling(deployment)...)
		problems = append(problems, objects.checkPorts(deployment)...)
	}
	return problems
}

func (objects Objects) checkScaling(deployment *appsv1.Deployment) (problems []string) {
	budgets, scalers := 0, 0
	for _, budget := range objects.Budgets {
		if pods := objects.selected(budget.Spec.Selector); len(pods) == 1 && pods[0] == deployment {
			budgets++
		}
	}
	for _, scaler := range objects.Autoscalers {
		target := scaler.Spec.ScaleTargetRef
		if target.Kind == "Deployment" && target.APIVersion == "apps/v1" && target.Name == deployment.Name {
			scalers++
		}
	}
	if budgets != 1 || scalers != 1 {
		problems = append(problems, fmt.Sprintf("Deployment %s has %d PodDisruptionBudgets and %d autoscalers", deployment.Name, budgets, scalers))
	}
	if update := deployment.Spec.Strategy.RollingUpdate; update == nil || update.MaxUnavailable.String() != "0" {
		problems = append(problems, fmt.Sprintf("Deployment %s: a replica may go before the next one is ready", deployment.Name))
	}
	return problems
}

// checkPorts compares the declared ports with those in the settings.
func (objects Objects) checkPorts(deployment *appsv1.Deployment) (problems []string) {
	problem := func(format string, parts ...any) {
		problems = append(problems, fmt.Sprintf("Deployment %s: ", deployment.Name)+fmt.Sprintf(format, parts...))
	}
	settings := objects.settings(deployment, deployment.Spec.Template.Spec.Containers[0])
	for name, setting := range map[string]string{"grpc": "LISTEN", "admin": "ADMIN_LISTEN"} {
		declared, ok := containerPort(deployment, intstr.FromString(name))
		if said := portOf(settings[setting]); !ok || said != declared {
			problem("the port %s is %d, %s is %q", name, declared, setting, settings[setting])
		}
	}
	if port := deployment.Spec.Template.Annotations["prometheus.io/port"]; portOf(":"+port) != portOf(settings["ADMIN_LISTEN"]) {
		problem("Prometheus is sent to port %s, ADMIN_LISTEN is %q", port, settings["ADMIN_LISTEN"])
	}
	for _, setting := range []string{"USER_SERVICE_URL", "BUS_URL"} {
		if at, err := url.Parse(settings[setting]); err == nil && at.Host != "" && !objects.serves(at.Hostname(), at.Port()) {
			problem("%s is %s, which is no Service here", setting, settings[setting])
		}
	}
	return problems
}

func (objects Objects) serves(host, port string) bool {
	return slices.ContainsFunc(objects.Services, func(service *corev1.Service) bool {
		return service.Name == host && slices.ContainsFunc(service.Spec.Ports, func(offered corev1.ServicePort) bool {
			return strconv.Itoa(int(offered.Port)) == port
		})
	})
}

// selected returns the Deployments whose pods a selector matches.
func (objects Objects) selected(selector *metav1.LabelSelector) (found []*appsv1.Deployment) {
	matcher, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil
	}
	for _, deployment := range objects.Deployments {
		if matcher.Matches(labels.Set(deployment.Spec.Template.Labels)) {
			found = append(found, deployment)
		}
	}
	return found
}

func containerPort(deployment *appsv1.Deployment, port intstr.IntOrString) (int32, bool) {
	for _, container := range deployment.Spec.Template.Spec.Containers {
		for _, declared := range container.Ports {
			if declared.Name == port.StrVal || declared.ContainerPort == port.IntVal {
				return declared.ContainerPort, true
			}
		}
	}
	return 0, false
}

func portOf(address string) int32 {
	at, err := url.Parse("tcp://" + address)
	if err != nil {
		return 0
	}
	number, _ := strconv.Atoi(at.Port())
	return int32(number)
}
