package conformance_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

// An outcome is what one release of Nix was recorded to answer.
type outcome struct {
	ExitStatus int    `json:"exitStatus"`
	Output     string `json:"output"`
}

// goldenDiffers names recorded outcomes that gobuild does not copy, each with the reason.
var goldenDiffers = map[string]string{
	"feat":     "the recording's list of features is that of another machine",
	"wrongsys": "the same",
}

// TestRecordedOutcomes holds gobuild to the recorded answers of two releases of Nix: one of both must be matched.
func TestRecordedOutcomes(t *testing.T) {
	golden := filepath.Join(nixtest.Tree(), "testdata/golden")
	text, err := os.ReadFile(filepath.Join(golden, "build-outcomes.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]map[string]outcome
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	// The recorded expressions are a plain set, without the shell that the lab offers.
	wrapper := filepath.Join(lab.Dir, "outcomes.nix")
	expr := "{ shell }: import " + filepath.Join(golden, "build-outcomes.nix") + "\n"
	if err := os.WriteFile(wrapper, []byte(expr), 0o644); err != nil {
		t.Fatal(err)
	}
	tmpl := lab.Instantiate(t, wrapper, nil)
	gobuild := nixtest.Gobuild(t)
	for attr, releases := range recorded {
		t.Run(attr, func(t *testing.T) {
			if why, ok := goldenDiffers[attr]; ok {
				t.Skipf("skipped: %s", why)
			}
			store := tmpl.NewStore(t)
			result := nixtest.Plainly(store, gobuild.Run(t, store, nixtest.Request{Targets: []string{tmpl.Drvs[attr]}}))
			var want []outcome
			for _, o := range releases {
				want = append(want, outcome{o.ExitStatus, withoutExample(o.Output)})
			}
			if got := (outcome{result.Exit, withoutExample(essence(result))}); !slices.Contains(want, got) {
				t.Errorf("got %+v\nwant one of %+v", got, want)
			}
			nixtest.Verify(t, lab.Tools, store)
		})
	}
}

// withoutExample cuts off the path that a message gives as an example: Nix may name the place where the output was built, which
// is its own business.
func withoutExample(text string) string {
	text, _, _ = strings.Cut(text, ", e.g. '")
	return text
}

// essence is what the recordings keep of a run: builder output and errors, or the path of a success.
func essence(r nixtest.Result) string {
	if r.Exit == 0 {
		return strings.TrimSpace(r.Stdout)
	}
	var kept []string
	plan := false
	for line := range strings.Lines(r.Stderr) {
		switch {
		case strings.HasSuffix(line, "will be built:\n"):
			plan = true
		case plan && strings.HasPrefix(line, "  /"), strings.HasPrefix(line, "building '"):
		default:
			kept = append(kept, line)
		}
	}
	return strings.TrimSpace(strings.Join(kept, ""))
}
