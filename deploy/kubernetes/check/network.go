package main

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// The label of namespaces whose pods may call.
	callers = "parlance/callers"
	// The namespace of Prometheus.
	monitoring = "monitoring"
)

// CheckNetwork proves that every pod has a policy, that the ports in it exist, that only the intended callers are let in,
// and that a call that one policy allows is allowed by the other.
func CheckNetwork(objects Objects) (problems []string) {
	problem := func(format string, parts ...any) { problems = append(problems, fmt.Sprintf(format, parts...)) }
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	policies := map[string]*networkingv1.NetworkPolicy{}
	for _, policy := range objects.Policies {
		pods := objects.selected(&policy.Spec.PodSelector)
		if len(pods) != 1 || !slices.Equal(policy.Spec.PolicyTypes, both) {
			problem("NetworkPolicy %s does not cover both directions of exactly one Deployment's pods", policy.Name)
			continue
		}
		policies[pods[0].Name] = policy
		for _, rule := range policy.Spec.Ingress {
			problems = append(problems, objects.checkIngress(policy, rule, pods[0])...)
		}
	}
	for _, deployment := range objects.Deployments {
		policy := policies[deployment.Name]
		if policy == nil {
			problem("Deployment %s has no NetworkPolicy", deployment.Name)
			continue
		}
		for _, rule := range policy.Spec.Egress {
			for _, peer := range rule.To {
				for _, called := range objects.peers(peer) {
					if !letsIn(policies[called.Name], deployment, rule.Ports) {
						problem("%s may call %s, which does not let it in", deployment.Name, called.Name)
					}
				}
			}
		}
	}
	// message-service calls the services in its settings; the policies must allow that.
	for _, called := range []string{"user-service", "nats"} {
		if policy := policies["message-service"]; policies[called] != nil && policy != nil && !callsOut(objects, policy, called) {
			problem("message-service may not call %s", called)
		}
	}
	return problems
}

func (objects Objects) checkIngress(policy *networkingv1.NetworkPolicy, rule networkingv1.NetworkPolicyIngressRule, deployment *appsv1.Deployment) (problems []string) {
	problem := func(format string, parts ...any) {
		problems = append(problems, fmt.Sprintf("NetworkPolicy %s: ", policy.Name)+fmt.Sprintf(format, parts...))
	}
	if len(rule.From) == 0 || len(rule.Ports) == 0 {
		problem("any client is admitted, or to any port")
	}
	for _, port := range rule.Ports {
		if port.Port == nil {
			problem("a port without a name")
			continue
		}
		if _, ok := containerPort(deployment, *port.Port); !ok {
			problem("no container has the port %s", port.Port)
		}
		for _, peer := range rule.From {
			if !mayCall(peer, port.Port.String()) {
				problem("strangers are let in to the port %s", port.Port)
			}
		}
	}
	return problems
}

// mayCall reports whether a peer may be let in at all: message-service, namespaces of callers, and Prometheus to the admin port.
func mayCall(peer networkingv1.NetworkPolicyPeer, port string) bool {
	if peer.IPBlock != nil {
		return false
	}
	if pods := peer.PodSelector; pods != nil && pods.MatchLabels["app.kubernetes.io/name"] == "message-service" {
		return port != "admin" && peer.NamespaceSelector == nil
	}
	if peer.NamespaceSelector == nil {
		return false
	}
	if port == "admin" {
		return peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == monitoring
	}
	return port == "grpc" && peer.NamespaceSelector.MatchLabels[callers] == "true"
}

func (objects Objects) peers(peer networkingv1.NetworkPolicyPeer) []*appsv1.Deployment {
	if peer.PodSelector == nil || peer.NamespaceSelector != nil {
		return nil
	}
	return objects.selected(peer.PodSelector)
}

func letsIn(policy *networkingv1.NetworkPolicy, caller *appsv1.Deployment, ports []networkingv1.NetworkPolicyPort) bool {
	return policy != nil && slices.ContainsFunc(policy.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
		return slices.ContainsFunc(rule.From, func(peer networkingv1.NetworkPolicyPeer) bool {
			if peer.PodSelector == nil {
				return false
			}
			caller := Objects{Deployments: []*appsv1.Deployment{caller}}.selected(peer.PodSelector)
			return len(caller) == 1 && samePorts(rule.Ports, ports)
		})
	})
}

func samePorts(some, others []networkingv1.NetworkPolicyPort) bool {
	return slices.EqualFunc(some, others, func(one, other networkingv1.NetworkPolicyPort) bool {
		return one.Port.String() == other.Port.String() && *one.Protocol == *other.Protocol
	})
}

func callsOut(objects Objects, policy *networkingv1.NetworkPolicy, called string) bool {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": called}}
	wanted := objects.selected(selector)
	return slices.ContainsFunc(policy.Spec.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
		return slices.ContainsFunc(rule.To, func(peer networkingv1.NetworkPolicyPeer) bool {
			return slices.Equal(objects.peers(peer), wanted)
		})
	})
}
