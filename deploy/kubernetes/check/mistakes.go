package main

import "strings"

// Mistake is a change to right manifests, and what must be told of it.
type Mistake struct {
	name, right, wrong, told string
}

func (mistake Mistake) made(text string) (string, bool) {
	wrong := strings.Replace(text, mistake.right, mistake.wrong, 1)
	return wrong, wrong != text
}

// Mistakes are some of which each check must find its own.
var Mistakes = []Mistake{
	{"a field that there is not", "terminationGracePeriodSeconds:", "terminationGracePeriodSecond:", "unknown field"},
	{"a field twice", "  clusterIP: None\n", "  clusterIP: None\n  clusterIP: None\n", "already set"},
	{"a word for a number", "maxUnavailable: 1\n", "maxUnavailable: 1.5\n", "cannot unmarshal"},
	{"a kind that there is not", "kind: PodDisruptionBudget", "kind: PodDisruptionBudgets", "no kind"},
	{"nobody may come and nobody go", "maxSurge: 1", "maxSurge: 0", "may not be 0"},
	{"a label that is none", "app.kubernetes.io/part-of: parlance", "app.kubernetes.io/part-of: parlance!", "valid label"},
	{"fewer at most than at least", "minReplicas: ", "minReplicas: 9", "maxReplicas"},
	{"a port that is none", "containerPort: 9090", "containerPort: 90900", "containerPort"},
	{"a Deployment that is not its own pods'", "    matchLabels:\n      app.kubernetes.io/name: message-service\n  strategy",
		"    matchLabels:\n      app.kubernetes.io/name: messages\n  strategy", "selector"},
	{"a Service of nobody", "  selector:\n    app.kubernetes.io/name: message-service\n",
		"  selector:\n    app.kubernetes.io/name: messages\n", "does not select"},
	{"a Service to nowhere", "targetPort: grpc", "targetPort: web", "no container has the port"},
	{"a budget of nobody", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: IfHealthyBudget\n  minAvailable: 1",
		"minAvailable and maxUnavailable cannot be both set"},
	{"an autoscaler of nobody", "    kind: Deployment\n    name: message-service", "    kind: Deployment\n    name: messages", "autoscalers"},
	{"a gap in a rollout", "maxUnavailable: 0", "maxUnavailable: 1", "before the next one is ready"},
	{"a Prometheus sent elsewhere", `prometheus.io/port: "9090"`, `prometheus.io/port: "9091"`, "Prometheus"},
	{"pods that Prometheus does not find", "        app.kubernetes.io/part-of: parlance\n    spec:", "    spec:", "Prometheus finds the jobs"},
	{"metrics where there are none", "prometheus.io/path: /metrics", "prometheus.io/path: /metric", "404"},
	{"a port that nobody listens on", "LISTEN: 0.0.0.0:50051", "LISTEN: 0.0.0.0:50061", "the port grpc is 50051"},
	{"a user-service that is not there", "http://user-service:50051", "http://users:50051", "no Service here"},
	{"strangers", `parlance/callers: "true"`, `kubernetes.io/metadata.name: default`, "strangers"},
	{"everybody", "    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: message-service\n    - namespaceSelector:\n" +
		"        matchLabels:\n          parlance/callers: \"true\"\n", "", "everybody is let in"},
	{"a call that is not let in", "    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: message-service\n" +
		"    - namespaceSelector", "    - namespaceSelector", "does not let it in"},
	{"a call that is not let out", "  - ports:\n    - port: grpc\n      protocol: TCP\n    to:\n    - podSelector:\n        matchLabels:\n" +
		"          app.kubernetes.io/name: user-service\n", "", "may not call"},
	{"a port of a policy that there is not", "port: admin", "port: administration", "no container has the port"},
	{"root", "runAsNonRoot: true", "runAsNonRoot: false", "not restricted"},
	{"a profile of none", "type: RuntimeDefault", "type: Unconfined", "not restricted"},
	{"a capability kept", "            drop:\n            - ALL\n", "            drop:\n            - NET_RAW\n", "not restricted"},
	{"a file system to write to", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write"},
	{"a token", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"},
	{"a limit that is none", "          limits:\n            memory: ", "          limits:\n            cpu: ", "does not say what it needs"},
	{"too little grace", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 30", "too short"},
	{"too little memory", `MAX_CONNECTIONS: "`, `MAX_CONNECTIONS: "9`, "not enough memory"},
	{"too many connections", `DATABASE_CONNECTIONS: "`, `DATABASE_CONNECTIONS: "9`, "connections that all replicas may take"},
	{"a setting that there is not", "DRAIN_ACCEPT: ", "DRAIN_ACCEPTS: ", "is not a setting of"},
	{"a live log beyond the memory", "LIVE_LOG_BYTES: ", "LIVE_LOG_BYTES: 9", "not enough memory"},
	{"a value that is not taken", "LOG_LEVEL: info", "LOG_LEVEL: loud,,=", "--log-level"},
	{"a binary that there is not", "/usr/local/bin/message-service", "/usr/local/bin/messages", "no such file"},
	{"a command that there is not", "        - migrate\n", "        - migrates\n", "migrates"},
	{"a secret nobody was told of", "key: message-service", "key: messages", "does not say how to create the Secret"},
	{"a secret in the open", "          valueFrom:\n            secretKeyRef:\n              key: message-service\n              name: parlance-database\n",
		"          value: postgres://in:the@open/\n", "not from a Secret"},
	{"a health of nobody", "service: readiness", "service: ready", "not registered"},
	{"a probe of another", "service: liveness", "service: readiness", "the liveness probe asks for readiness"},
	{"a probe of another port", "            port: 50052\n            service: startup", "            port: 50051\n            service: startup", "asks port 50051"},
	{"a namespace", "metadata:\n", "metadata:\n  namespace: default\n", "the operator's to choose"},
}

// MistakesOf are those that only one kustomization can make.
var MistakesOf = map[string][]Mistake{
	"production": {
		{"a word that NATS does not know", "- --http_port\n", "- --http_ports\n", "nats-server ended"},
		{"a bus that is not there", "BUS_URL: nats://nats:4222", "BUS_URL: nats://nats:4223", "no Service here"},
		{"a bus that may not be called", "          app.kubernetes.io/name: nats\n", "          app.kubernetes.io/name: gnats\n", "may not call nats"},
	},
}
