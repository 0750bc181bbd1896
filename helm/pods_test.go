package helm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod is a pod that an object makes, or is.
type pod struct {
	owner  metav1.Object
	labels map[string]string
	spec   corev1.PodSpec
}

func (p pod) String() string { return fmt.Sprintf("%T %s", p.owner, p.owner.GetName()) }

func (p pod) component() string { return p.labels["app.kubernetes.io/component"] }

func (p pod) containers() []corev1.Container {
	return slices.Concat(p.spec.InitContainers, p.spec.Containers)
}

// isHook tells whether the pod runs before the objects of the release are there.
func (p pod) isHook() bool {
	return strings.Contains(p.owner.GetAnnotations()["helm.sh/hook"], "pre-")
}

func pods(objects []metav1.Object) (all []pod) {
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			all = append(all, pod{o, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *appsv1.StatefulSet:
			all = append(all, pod{o, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *batchv1.Job:
			all = append(all, pod{o, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *corev1.Pod:
			all = append(all, pod{o, o.Labels, o.Spec})
		}
	}
	return all
}

// The "restricted" standard of pod security, and what it does not ask for.
func TestPodsMayDoNothingButRun(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			s := p.spec.SecurityContext
			if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 ||
				s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%v: %v", p, s)
			}
			if m := p.spec.AutomountServiceAccountToken; m == nil || *m {
				t.Errorf("%v gets a token of the API", p)
			}
			if l := p.spec.EnableServiceLinks; l == nil || *l {
				t.Errorf("%v gets variables made of the names of Services", p)
			}
			for _, c := range p.containers() {
				s := c.SecurityContext
				if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
					s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
					s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
					t.Errorf("%v, %s: %v", p, c.Name, s)
				}
			}
		}
	})
}

// What is said twice is taken once, and it is not said which.
func TestContainersSayNothingTwice(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			for _, c := range p.containers() {
				seen := map[string]bool{}
				once := func(what string) {
					if seen[what] {
						t.Errorf("%v, %s: %s twice", p, c.Name, what)
					}
					seen[what] = true
				}
				for _, port := range c.Ports {
					once("port " + port.Name)
					once(fmt.Sprint("port ", port.ContainerPort))
				}
				for _, e := range c.Env {
					once("variable " + e.Name)
				}
				for _, arg := range c.Args {
					flag, _, _ := strings.Cut(arg, "=")
					once("argument " + flag)
				}
				for _, m := range c.VolumeMounts {
					once("mount " + m.MountPath)
				}
			}
		}
	})
}

// Everything a pod names is there, when it is needed.
func TestPodsFindWhatTheyName(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		there := map[string]map[string]bool{}
		hooks := map[string]bool{}
		for _, o := range objects {
			hooks[o.GetName()] = o.GetAnnotations()["helm.sh/hook"] != ""
			if s, ok := o.(*corev1.Secret); ok {
				there[s.Name] = map[string]bool{}
				for key := range s.StringData {
					there[s.Name][key] = true
				}
			}
		}
		for _, p := range pods(objects) {
			if account := p.spec.ServiceAccountName; p.isHook() != hooks[account] && account != "" {
				t.Errorf("%v: service account %s comes at another time", p, account)
			}
			for _, c := range p.containers() {
				for _, e := range c.Env {
					if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
						continue
					}
					ref := e.ValueFrom.SecretKeyRef
					keys, ours := there[ref.Name]
					if ours && !keys[ref.Key] || !ours && strings.HasPrefix(ref.Name, "hf-") {
						t.Errorf("%v: no key %s in secret %s", p, ref.Key, ref.Name)
					}
					if ours && p.isHook() != hooks[ref.Name] {
						t.Errorf("%v: secret %s comes at another time", p, ref.Name)
					}
				}
			}
			checkReferences(t, p)
			checkVolumes(t, p)
		}
	})
}

var reference = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// checkReferences checks that $(NAME) in an argument is a variable of its container.
func checkReferences(t *testing.T, p pod) {
	for _, c := range p.containers() {
		for _, m := range reference.FindAllStringSubmatch(strings.Join(c.Args, " "), -1) {
			if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == m[1] }) {
				t.Errorf("%v, %s: no variable %s", p, c.Name, m[1])
			}
		}
	}
}

func checkVolumes(t *testing.T, p pod) {
	for _, c := range p.containers() {
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("%v, %s: no volume %s", p, c.Name, m.Name)
			}
		}
	}
}

// Whoever selects pods finds some.
func TestSelectorsSelect(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		all := pods(objects)
		for _, o := range objects {
			var selector map[string]string
			switch o := o.(type) {
			case *corev1.Service:
				selector = o.Spec.Selector
			case *appsv1.Deployment:
				selector = o.Spec.Selector.MatchLabels
			case *appsv1.StatefulSet:
				selector = o.Spec.Selector.MatchLabels
			default:
				continue
			}
			selected := 0
			for _, p := range all {
				if selects(selector, p.labels) {
					selected++
				}
			}
			if selected != 1 {
				t.Errorf("%T %s selects the pods of %d objects", o, o.GetName(), selected)
			}
		}
	})
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// A DSN has a password in it: it is nowhere but in Secrets, where the values have it at all.
func TestNoDSNOutsideOfSecrets(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			for _, c := range p.containers() {
				for _, e := range c.Env {
					if strings.Contains(e.Value, "postgres://") {
						t.Errorf("%v: %s is %s", p, e.Name, e.Value)
					}
				}
				if strings.Contains(strings.Join(c.Args, " "), "postgres://") {
					t.Errorf("%v: %s", p, c.Args)
				}
			}
		}
	})
}
