package helm

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

type compose struct {
	Services map[string]struct {
		Image   string   `json:"image"`
		Build   any      `json:"build"`
		Command []string `json:"command"`
		Volumes []string `json:"volumes"`
		Ports   []string `json:"ports"`
	} `json:"services"`
	Volumes map[string]any `json:"volumes"`
}

func readCompose(t *testing.T, dir string) (c compose) {
	t.Helper()
	file, err := os.ReadFile(dir + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(file, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Services that build an image of one name are built at the same time, and all but one of them may
// fail: "already exists". Whoever does not build it finds it built.
func TestComposeBuildsItsImageOnce(t *testing.T) {
	c := readCompose(t, "../deploy")
	image := c.Services["migrate"].Image // before all who wait for it
	users := 0
	for name, s := range c.Services {
		if s.Image == image {
			users++
		}
		if (s.Build != nil) != (name == "migrate") {
			t.Errorf("%s: builds %v", name, s.Build)
		}
	}
	if users < 2 {
		t.Errorf("%d services have the image", users)
	}
}

// deploy/compose.yaml shows the chart's dashboard and alerts: what it mounts is there, and
// everything that has metrics is read.
func TestComposeWatchesEverything(t *testing.T) {
	const dir = "../deploy"
	c := readCompose(t, dir)
	var serving []string
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := c.Volumes[from]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, from)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s can be reached from elsewhere", name, p)
			}
		}
		if slices.Contains(s.Command, "--metrics-listen=0.0.0.0:9090") {
			serving = append(serving, name+":9090")
		}
	}
	config, err := os.ReadFile(dir + "/compose/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`(?:worker|coordinator)-\d:9090`).FindAllString(string(config), -1)
	slices.Sort(read)
	slices.Sort(serving)
	if !slices.Equal(read, serving) || len(read) != 5 {
		t.Errorf("Prometheus reads %q, metrics are at %q", read, serving)
	}
}
