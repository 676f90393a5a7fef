package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Nats runs the real server with the arguments of its container, once for equal ones.
type Nats map[string]error

// Check proves that the server accepts its arguments and answers its probes, on free loopback ports instead of its own.
func (nats Nats) Check(objects Objects) (problems []string) {
	for _, deployment := range objects.Deployments {
		container := deployment.Spec.Template.Spec.Containers[0]
		if image, _, _ := strings.Cut(container.Image, ":"); image != "nats" {
			continue
		}
		key := fmt.Sprint(container.Args, container.Ports, container.ReadinessProbe, container.LivenessProbe)
		answer, ok := nats[key]
		if !ok {
			answer = try(deployment, container)
			nats[key] = answer
		}
		if answer != nil {
			problems = append(problems, fmt.Sprintf("Deployment %s: %v", deployment.Name, answer))
		}
	}
	return problems
}

func try(deployment *appsv1.Deployment, container corev1.Container) error {
	arguments := strings.Join(container.Args, "\n")
	free := map[int32]int32{}
	var listeners []net.Listener
	for _, port := range container.Ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		// Open until all ports are chosen, so that they differ.
		listeners = append(listeners, listener)
		number := int32(listener.Addr().(*net.TCPAddr).Port)
		free[port.ContainerPort] = number
		arguments = strings.ReplaceAll(arguments, strconv.Itoa(int(port.ContainerPort)), strconv.Itoa(int(number)))
	}
	for _, listener := range listeners {
		listener.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var log bytes.Buffer
	server := exec.CommandContext(ctx, "nats-server", append([]string{"--addr", "127.0.0.1"}, strings.Split(arguments, "\n")...)...)
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	defer func() {
		_ = server.Process.Kill()
		<-ended
	}()
	for _, probe := range []*corev1.Probe{container.ReadinessProbe, container.LivenessProbe} {
		port, ok := containerPort(deployment, probe.HTTPGet.Port)
		if !ok {
			return fmt.Errorf("a probe asks the port %s, which the server does not open", probe.HTTPGet.Port.String())
		}
		url := fmt.Sprintf("http://127.0.0.1:%d%s", free[port], probe.HTTPGet.Path)
		for err := scrape(ctx, url); err != nil; err = scrape(ctx, url) {
			select {
			case wrong := <-ended:
				ended <- wrong
				return fmt.Errorf("nats-server ended: %w: %s", wrong, log.String())
			case <-ctx.Done():
				return fmt.Errorf("nats-server does not answer its probe: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}
