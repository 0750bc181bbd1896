package helm

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	chartDir  = "holdfast"
	namespace = "shop"
)

// kinds are those that the chart and its examples may have, with what they are decoded into.
var kinds = map[string]func() metav1.Object{
	"v1/Secret":                          func() metav1.Object { return new(corev1.Secret) },
	"v1/Service":                         func() metav1.Object { return new(corev1.Service) },
	"v1/ServiceAccount":                  func() metav1.Object { return new(corev1.ServiceAccount) },
	"v1/Pod":                             func() metav1.Object { return new(corev1.Pod) },
	"apps/v1/Deployment":                 func() metav1.Object { return new(appsv1.Deployment) },
	"apps/v1/StatefulSet":                func() metav1.Object { return new(appsv1.StatefulSet) },
	"batch/v1/Job":                       func() metav1.Object { return new(batchv1.Job) },
	"policy/v1/PodDisruptionBudget":      func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy": func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	"autoscaling/v2/HorizontalPodAutoscaler": func() metav1.Object {
		return new(autoscalingv2.HorizontalPodAutoscaler)
	},
	"v1/ConfigMap": func() metav1.Object { return new(corev1.ConfigMap) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() metav1.Object { return new(monitoringv1.ServiceMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() metav1.Object { return new(monitoringv1.PrometheusRule) },
}

// decode reads the manifests of a file, and refuses fields that Kubernetes does not know.
func decode(t *testing.T, name, file string) (objects []metav1.Object) {
	t.Helper()
	for document := range strings.SplitSeq("\n"+file, "\n---") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, document)
		}
		if kind == (metav1.TypeMeta{}) {
			continue // comments only
		}
		empty, ok := kinds[kind.APIVersion+"/"+kind.Kind]
		if !ok {
			t.Fatalf("%s: unknown kind %v", name, kind)
		}
		object := empty()
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Errorf("%s: %s: %v", name, kind.Kind, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// render renders the chart as `helm template` does.
func render(values map[string]any, skipSchema bool) (map[string]string, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	options := chartutil.ReleaseOptions{Name: "hf", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValuesWithSchemaValidation(chart, values, options, nil, skipSchema)
	if err != nil {
		return nil, err
	}
	return engine.Engine{}.Render(chart, all)
}

// valuesFiles are the sets of values that must work, by file. Of the examples, values-NAME.yaml
// comes on top of values.yaml.
func valuesFiles(t *testing.T) map[string]map[string]any {
	t.Helper()
	files := map[string]map[string]any{}
	for _, pattern := range []string{chartDir + "/ci/*-values.yaml", "examples/*/values.yaml", "examples/*/values-*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			files[name] = readValues(t, name)
			if strings.HasPrefix(filepath.Base(name), "values-") {
				files[name] = chartutil.MergeTables(files[name], readValues(t, filepath.Join(filepath.Dir(name), "values.yaml")))
			}
		}
	}
	return files
}

func readValues(t *testing.T, name string) map[string]any {
	t.Helper()
	values, err := chartutil.ReadValuesFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// forEach renders every set of values, and hands over what came out.
func forEach(t *testing.T, check func(t *testing.T, values map[string]any, objects []metav1.Object)) {
	for name, values := range valuesFiles(t) {
		t.Run(filepath.ToSlash(name), func(t *testing.T) {
			files, err := render(values, false)
			if err != nil {
				t.Fatal(err)
			}
			var objects []metav1.Object
			for _, file := range slices.Sorted(maps.Keys(files)) {
				if !strings.HasSuffix(file, "NOTES.txt") {
					objects = append(objects, decode(t, file, files[file])...)
				}
			}
			check(t, values, objects)
		})
	}
}

func TestEverySetOfValuesIsWhatKubernetesKnows(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		seen := map[string]bool{}
		for _, o := range objects {
			id := fmt.Sprintf("%T %s", o, o.GetName())
			if seen[id] {
				t.Errorf("%s is there twice", id)
			}
			seen[id] = true
			if o.GetNamespace() != namespace {
				t.Errorf("%s: namespace %q", id, o.GetNamespace())
			}
			if len(o.GetName()) > 63 {
				t.Errorf("%s: the name is too long", id)
			}
		}
		if len(objects) < 8 {
			t.Errorf("only %d objects", len(objects))
		}
	})
}

// helm lint --strict: warnings are errors.
func TestLint(t *testing.T) {
	sets := valuesFiles(t)
	sets["values.yaml"] = values(t, "{}")
	for name, values := range sets {
		linter := lint.AllWithKubeVersion(chartDir, values, namespace, nil)
		for _, m := range linter.Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// The longest names that a release and its shards may have still make names of objects.
func TestLongNames(t *testing.T) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"dev": map[string]any{"enabled": true}, "insecure": true,
		"shards": []any{map[string]any{"name": strings.Repeat("s", 32)}},
	}
	options := chartutil.ReleaseOptions{Name: strings.Repeat("r", 53), Namespace: namespace, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Engine{}.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		for _, o := range decode(t, name, file) {
			longest := 63
			if _, ok := o.(*appsv1.StatefulSet); ok {
				longest = 52 // and the hash of a revision, in a label
			}
			if len(o.GetName()) > longest {
				t.Errorf("%T %s: %d characters", o, o.GetName(), len(o.GetName()))
			}
		}
	}
}

// hasOthersKinds tells whether a file is for an operator that is not Kubernetes itself.
func hasOthersKinds(file string) bool {
	return strings.Contains(file, "apiVersion: postgresql.cnpg.io/") || strings.Contains(file, "apiVersion: cert-manager.io/")
}

func TestExamplesAreWhatKubernetesKnows(t *testing.T) {
	names, err := filepath.Glob("examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(name), "values") || hasOthersKinds(string(file)) {
			continue
		}
		if len(decode(t, name, string(file))) == 0 {
			t.Errorf("%s: nothing in it", name)
		}
	}
}
