package main

import "strings"

// Mistake is a change to correct manifests, and the problem that must be reported.
type Mistake struct {
	name, right, wrong, problem string
}

func (mistake Mistake) made(text string) (string, bool) {
	wrong := strings.Replace(text, mistake.right, mistake.wrong, 1)
	return wrong, wrong != text
}

// Mistakes has at least one for each check to find.
var Mistakes = []Mistake{
	{"an unknown field", "terminationGracePeriodSeconds:", "terminationGracePeriodSecond:", "unknown field"},
	{"a repeated field", "  clusterIP: None\n", "  clusterIP: None\n  clusterIP: None\n", "already set"},
	{"a word for a number", "maxUnavailable: 1\n", "maxUnavailable: 1.5\n", "cannot unmarshal"},
	{"an unknown kind", "kind: PodDisruptionBudget", "kind: PodDisruptionBudgets", "no kind"},
	{"a rollout that can neither add nor remove a pod", "maxSurge: 1", "maxSurge: 0", "may not be 0"},
	{"an invalid label", "app.kubernetes.io/part-of: parlance", "app.kubernetes.io/part-of: parlance!", "valid label"},
	{"a maximum below the minimum", "minReplicas: ", "minReplicas: 9", "maxReplicas"},
	{"an invalid port", "containerPort: 9090", "containerPort: 90900", "containerPort"},
	{"a Deployment that does not select its pods", "    matchLabels:\n      app.kubernetes.io/name: message-service\n  strategy",
		"    matchLabels:\n      app.kubernetes.io/name: messages\n  strategy", "selector"},
	{"a Service without pods", "  selector:\n    app.kubernetes.io/name: message-service\n",
		"  selector:\n    app.kubernetes.io/name: messages\n", "does not select"},
	{"a Service to a missing port", "targetPort: grpc", "targetPort: web", "no container has the port"},
	{"a budget with both limits", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: IfHealthyBudget\n  minAvailable: 1",
		"minAvailable and maxUnavailable cannot be both set"},
	{"an autoscaler of a missing Deployment", "    kind: Deployment\n    name: message-service", "    kind: Deployment\n    name: messages", "autoscalers"},
	{"a gap in a rollout", "maxUnavailable: 0", "maxUnavailable: 1", "before the next one is ready"},
	{"another port for Prometheus", `prometheus.io/port: "9090"`, `prometheus.io/port: "9091"`, "Prometheus"},
	{"pods that Prometheus does not find", "        app.kubernetes.io/part-of: parlance\n    spec:", "    spec:", "Prometheus finds the jobs"},
	{"another path for metrics", "prometheus.io/path: /metrics", "prometheus.io/path: /metric", "404"},
	{"a port without a listener", "LISTEN: 0.0.0.0:50051", "LISTEN: 0.0.0.0:50061", "the port grpc is 50051"},
	{"a missing user-service", "http://user-service:50051", "http://users:50051", "no Service here"},
	{"callers from any namespace", `parlance/callers: "true"`, `kubernetes.io/metadata.name: default`, "strangers"},
	{"a policy without callers", "    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: message-service\n    - namespaceSelector:\n" +
		"        matchLabels:\n          parlance/callers: \"true\"\n", "", "any client is admitted"},
	{"a call that the policy of its target denies", "    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: message-service\n" +
		"    - namespaceSelector", "    - namespaceSelector", "does not let it in"},
	{"a call that the policy of its source denies", "  - ports:\n    - port: grpc\n      protocol: TCP\n    to:\n    - podSelector:\n        matchLabels:\n" +
		"          app.kubernetes.io/name: user-service\n", "", "may not call"},
	{"a policy for a missing port", "port: admin", "port: administration", "no container has the port"},
	{"root", "runAsNonRoot: true", "runAsNonRoot: false", "not restricted"},
	{"no seccomp profile", "type: RuntimeDefault", "type: Unconfined", "not restricted"},
	{"a capability kept", "            drop:\n            - ALL\n", "            drop:\n            - NET_RAW\n", "not restricted"},
	{"a writable file system", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write"},
	{"a mounted token", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"},
	{"no memory limit", "          limits:\n            memory: ", "          limits:\n            cpu: ", "does not declare its resources"},
	{"too little grace", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 30", "too short"},
	{"too little memory", `MAX_CONNECTIONS: "`, `MAX_CONNECTIONS: "9`, "not enough memory"},
	{"too many connections", `DATABASE_CONNECTIONS: "`, `DATABASE_CONNECTIONS: "9`, "connections that all replicas may take"},
	{"an unknown setting", "DRAIN_ACCEPT: ", "DRAIN_ACCEPTS: ", "is not a setting of"},
	{"live logs larger than the memory", "LIVE_LOG_BYTES: ", "LIVE_LOG_BYTES: 9", "not enough memory"},
	{"an invalid value", "LOG_LEVEL: info", "LOG_LEVEL: loud,,=", "--log-level"},
	{"a missing binary", "/usr/local/bin/message-service", "/usr/local/bin/messages", "no such file"},
	{"an unknown command", "        - migrate\n", "        - migrates\n", "migrates"},
	{"an undocumented secret", "key: message-service", "key: messages", "does not say how to create the Secret"},
	{"a secret in plain text", "          valueFrom:\n            secretKeyRef:\n              key: message-service\n              name: parlance-database\n",
		"          value: postgres://in:the@open/\n", "not from a Secret"},
	{"an unknown health service", "service: readiness", "service: ready", "not registered"},
	{"a probe of another health service", "service: liveness", "service: readiness", "the liveness probe asks for readiness"},
	{"a probe of another port", "            port: 50052\n            service: startup", "            port: 50051\n            service: startup", "asks port 50051"},
	{"a namespace", "metadata:\n", "metadata:\n  namespace: default\n", "the operator's to choose"},
}

// MistakesOf has those that are possible in one kustomization only.
var MistakesOf = map[string][]Mistake{
	"production": {
		{"an unknown argument of NATS", "- --http_port\n", "- --http_ports\n", "nats-server ended"},
		{"a missing bus", "BUS_URL: nats://nats:4222", "BUS_URL: nats://nats:4223", "no Service here"},
		{"a bus that a policy denies", "          app.kubernetes.io/name: nats\n", "          app.kubernetes.io/name: gnats\n", "may not call nats"},
	},
}
