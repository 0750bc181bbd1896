package bench

import (
	"testing"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }
