package helm

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// secretsOf are the Secrets that a pod has as files, and the keys; none are all.
func secretsOf(p pod) map[string][]string {
	secrets := map[string][]string{}
	for _, v := range p.spec.Volumes {
		if v.Secret == nil {
			continue
		}
		secrets[v.Secret.SecretName] = nil
		for _, item := range v.Secret.Items {
			secrets[v.Secret.SecretName] = append(secrets[v.Secret.SecretName], item.Key)
		}
	}
	return secrets
}

// What a Secret holds is read again when it changes, and read by nobody but the pod's user.
func TestSecretsAreFilesThatChange(t *testing.T) {
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			for _, v := range p.spec.Volumes {
				if s := v.Secret; s != nil && (s.DefaultMode == nil || *s.DefaultMode != 0o440 || p.spec.SecurityContext.FSGroup == nil) {
					t.Errorf("%v, %s: the mode is %v, the group %v", p, v.Name, s.DefaultMode, p.spec.SecurityContext.FSGroup)
				}
			}
			for _, c := range p.containers() {
				for _, m := range c.VolumeMounts {
					if m.SubPath != "" || m.SubPathExpr != "" {
						t.Errorf("%v, %s: %s is a single file, which never changes", p, c.Name, m.MountPath)
					}
				}
			}
		}
	})
}

// Whoever breaks into a coordinator cannot pass for a worker, and whoever runs the test or
// migrates for neither.
func TestKeysAreTheirOwnersOnly(t *testing.T) {
	forEach(t, func(t *testing.T, values map[string]any, objects []metav1.Object) {
		if values["insecure"] == true {
			return
		}
		keys := map[string]string{ // of whom they are, by Secret
			secretOf(values, "server"):              "coordinator",
			secretOf(values, "peer", "coordinator"): "coordinator",
			secretOf(values, "peer", "worker"):      "worker",
		}
		seen := 0
		for _, p := range pods(objects) {
			for secret, only := range secretsOf(p) {
				owner, ok := keys[secret]
				if ok && owner == p.component() {
					seen++
				} else if ok && (len(only) == 0 || slices.Contains(only, corev1.TLSPrivateKeyKey)) {
					t.Errorf("%v has the key of %ss, in %s", p, owner, secret)
				}
			}
		}
		if seen != len(keys) {
			t.Errorf("%d of %d keys are with their owners", seen, len(keys))
		}
	})
}

func secretOf(values map[string]any, path ...string) string {
	at := values["tls"].(map[string]any)
	for _, name := range path {
		at = at[name].(map[string]any)
	}
	return at["existingSecret"].(string)
}

// Every file that a flag or a variable names is in a volume of its container.
func TestFilesAreMounted(t *testing.T) {
	file := regexp.MustCompile(`/etc/(?:holdfast|etcd|postgres)/[a-z0-9/.-]+`)
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			for _, c := range p.containers() {
				said := strings.Join(c.Args, " ")
				for _, e := range c.Env {
					said += " " + e.Value
				}
				for _, path := range file.FindAllString(said, -1) {
					if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return holds(p, m, path) }) {
						t.Errorf("%v, %s: no %s", p, c.Name, path)
					}
				}
			}
		}
	})
}

// holds tells whether a file is in a volume that is mounted there, as far as is known.
func holds(p pod, m corev1.VolumeMount, path string) bool {
	name, ok := strings.CutPrefix(path, m.MountPath+"/")
	if !ok || strings.Contains(name, "/") {
		return false
	}
	for _, v := range p.spec.Volumes {
		if v.Name == m.Name && v.Secret != nil {
			return len(v.Secret.Items) == 0 ||
				slices.ContainsFunc(v.Secret.Items, func(i corev1.KeyToPath) bool { return i.Path == name })
		}
	}
	return false
}

// The certificates of the example are those that the other examples name, for the names that
// holdfast looks for.
func TestExampleOfCertificatesFits(t *testing.T) {
	file, err := os.ReadFile("examples/tls/certificates.yaml")
	if err != nil {
		t.Fatal(err)
	}
	values := readValues(t, "examples/cloudnative-pg/values.yaml")
	for secret, name := range map[string]string{
		secretOf(values, "server"):              "holdfast-coordinator.holdfast.svc",
		secretOf(values, "peer", "coordinator"): "holdfast-coordinator",
		secretOf(values, "peer", "worker"):      "holdfast-worker",
		"etcd-member":                           `"*.etcd.holdfast.svc"`,
	} {
		if !slices.ContainsFunc(strings.Split(string(file), "\n---\n"), func(c string) bool {
			return strings.Contains(c, "  secretName: "+secret+"\n") && strings.Contains(c, "\n    - "+name+"\n")
		}) {
			t.Errorf("no certificate in %s for %s", secret, name)
		}
	}
	if !strings.Contains(string(file), "secretName: "+values["etcd"].(map[string]any)["tls"].(map[string]any)["existingSecret"].(string)+"\n") {
		t.Error("no certificate to show to etcd")
	}
}
