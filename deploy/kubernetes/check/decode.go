package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/kubernetes/pkg/features"
)

// A namespace that an operator could choose.
const namespace = "parlance"

// Objects are the rendered objects, by kind, with the defaults of the server.
type Objects struct {
	Deployments []*appsv1.Deployment
	Services    []*corev1.Service
	ConfigMaps  []*corev1.ConfigMap
	Budgets     []*policyv1.PodDisruptionBudget
	Autoscalers []*autoscalingv2.HorizontalPodAutoscaler
	Policies    []*networkingv1.NetworkPolicy
}

// Decode reads manifests as the server does. Unknown fields are errors, and so is everything that the server refuses or warns
// about when the object is created.
func Decode(text string) (Objects, []string) {
	var objects Objects
	var problems []string
	reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, problems
		}
		if err != nil {
			return objects, append(problems, err.Error())
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		legacyscheme.Scheme.Default(object)
		about, err := meta.Accessor(object)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		if about.GetNamespace() != "" {
			problems = append(problems, fmt.Sprintf("%s %s: the namespace is the operator's to choose", kind.Kind, about.GetName()))
		}
		objects.add(object)
		for _, problem := range refused(object) {
			problems = append(problems, fmt.Sprintf("%s %s: %s", kind.Kind, about.GetName(), problem))
		}
	}
}

func (objects *Objects) add(object runtime.Object) {
	switch object := object.(type) {
	case *appsv1.Deployment:
		objects.Deployments = append(objects.Deployments, object)
	case *corev1.Service:
		objects.Services = append(objects.Services, object)
	case *corev1.ConfigMap:
		objects.ConfigMaps = append(objects.ConfigMaps, object)
	case *policyv1.PodDisruptionBudget:
		objects.Budgets = append(objects.Budgets, object)
	case *autoscalingv2.HorizontalPodAutoscaler:
		objects.Autoscalers = append(objects.Autoscalers, object)
	case *networkingv1.NetworkPolicy:
		objects.Policies = append(objects.Policies, object)
	}
}

// refused returns everything that the server refuses or warns about when the object is created. The server has generated rules
// for the version that was sent, and handwritten ones for its own version.
func refused(object runtime.Object) (problems []string) {
	own, err := legacyscheme.Scheme.ConvertToVersion(object.DeepCopyObject(), runtime.InternalGroupVersioner)
	if err != nil {
		return []string{err.Error()}
	}
	about, err := meta.Accessor(own)
	if err != nil {
		return []string{err.Error()}
	}
	about.SetNamespace(namespace)
	ctx := context.Background()
	// The defaults of the server: no feature gate is opened.
	errors := legacyscheme.Scheme.Validate(ctx, map[string]bool{string(features.HPAScaleToZero): false}, object)
	switch own := own.(type) {
	case *apps.Deployment:
		template := &own.Spec.Template
		errors = append(errors, appsvalidation.ValidateDeployment(own, pod.GetValidationOptionsFromPodTemplate(template, nil))...)
		problems = append(problems, pod.GetWarningsForPodTemplate(ctx, field.NewPath("spec", "template"), template, nil)...)
	case *core.Service:
		allocate(own)
		errors = append(errors, corevalidation.ValidateServiceCreate(own)...)
		problems = append(problems, serviceapi.GetWarningsForService(own, nil)...)
	case *core.ConfigMap:
		errors = append(errors, corevalidation.ValidateConfigMap(own)...)
	case *policy.PodDisruptionBudget:
		options := policyvalidation.PodDisruptionBudgetValidationOptions{}
		errors = append(errors, policyvalidation.ValidatePodDisruptionBudget(own, options)...)
	case *autoscaling.HorizontalPodAutoscaler:
		options := autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1}
		errors = append(errors, autoscalingvalidation.ValidateHorizontalPodAutoscaler(own, options)...)
	case *networking.NetworkPolicy:
		options := networkingvalidation.ValidationOptionsForNetworking(own, nil)
		errors = append(errors, networkingvalidation.ValidateNetworkPolicy(own, options)...)
	default:
		problems = append(problems, "this check knows no such kind")
	}
	for _, wrong := range errors {
		problems = append(problems, wrong.Error())
	}
	return problems
}

// allocate sets the addresses and ports of a Service that the server allocates before it validates.
func allocate(service *core.Service) {
	single := core.IPFamilyPolicySingleStack
	service.Spec.IPFamilyPolicy, service.Spec.IPFamilies = &single, []core.IPFamily{core.IPv4Protocol}
	if service.Spec.ClusterIP == "" {
		service.Spec.ClusterIP = "10.96.0.10"
	}
	service.Spec.ClusterIPs = []string{service.Spec.ClusterIP}
}
