package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// CheckPods proves that every pod may run where the Pod Security Standard "restricted" is enforced, and is stricter where
// that standard is not enough.
func CheckPods(objects Objects) (problems []string) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return []string{err.Error()}
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, deployment := range objects.Deployments {
		template := deployment.Spec.Template
		problem := func(format string, parts ...any) {
			problems = append(problems, fmt.Sprintf("Deployment %s: ", deployment.Name)+fmt.Sprintf(format, parts...))
		}
		results := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec))
		if !results.Allowed {
			problem("not restricted: %s", results.ForbiddenDetail())
		}
		if token := template.Spec.AutomountServiceAccountToken; token == nil || *token {
			problem("pods get a token of the cluster's API")
		}
		if links := template.Spec.EnableServiceLinks; links == nil || *links {
			problem("pods get variables for every Service, which may be taken for settings")
		}
		if user := template.Spec.SecurityContext.RunAsUser; user == nil || *user == 0 {
			problem("the user id is not one that we chose")
		}
		for _, container := range containers(template.Spec) {
			if only := container.SecurityContext.ReadOnlyRootFilesystem; only == nil || !*only {
				problem("%s may write to its file system", container.Name)
			}
			asked, limit := container.Resources.Requests, container.Resources.Limits
			if asked.Cpu().IsZero() || asked.Memory().IsZero() || limit.Memory().IsZero() {
				problem("%s does not declare its resources", container.Name)
			}
			if asked.Memory().Cmp(*limit.Memory()) != 0 {
				problem("%s may be killed: its memory request is below its limit", container.Name)
			}
		}
	}
	return problems
}

func containers(spec corev1.PodSpec) []corev1.Container {
	return append(append([]corev1.Container{}, spec.InitContainers...), spec.Containers...)
}
