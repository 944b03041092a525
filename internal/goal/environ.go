package goal

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"gobuild/internal/store/drv"
)

// environInput is all that a builder's environment depends on.
type environInput struct {
	Drv      *drv.Derivation
	Options  *drv.Options
	StoreDir string
	BuildDir string // as the builder sees it
	Cores    int
	Fixed    bool
	Impure   func(name string) string // the engine's own environment, for fixed outputs only
}

// A buildFile is written into the build directory before the builder starts.
type buildFile struct {
	Name     string
	Contents []byte
	Told     bool // by the derivation: its text goes through the same rewriting as variables
}

// environ makes a builder's environment, sorted, and the files that carry the
// variables named in passAsFile (derivation spec, section 10).
func environ(in environInput) ([]string, []buildFile) {
	vars := map[string]string{
		"PATH":            "/path-not-set",
		"HOME":            noHome,
		"NIX_STORE":       in.StoreDir,
		"NIX_BUILD_CORES": strconv.Itoa(in.Cores),
	}
	var files []buildFile
	if in.Options.Structured {
		vars["NIX_ATTRS_JSON_FILE"] = path.Join(in.BuildDir, attrsJSONFile)
		vars["NIX_ATTRS_SH_FILE"] = path.Join(in.BuildDir, attrsShFile)
	} else {
		files = passAsFile(in, vars)
	}
	for _, name := range []string{"NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"} {
		vars[name] = in.BuildDir
	}
	if in.Fixed {
		vars["NIX_OUTPUT_CHECKED"] = "1"
		for _, name := range in.Options.ImpureEnvVars {
			vars[name] = in.Impure(name)
		}
	}
	vars["NIX_LOG_FD"] = "2"
	vars["TERM"] = "xterm-256color"
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env, files
}

// noHome is the home directory of builders.
const noHome = "/homeless-shelter"

// checkNoHome makes sure that builders without a sandbox have no home, where
// one could leave something for the next.
func checkNoHome(dir string) error {
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	return fmt.Errorf("home directory '%s' exists; please remove it to assure purity of builds without sandboxing", dir)
}

// passAsFile copies the derivation's variables to vars; those that are wanted
// as files go to files and leave the file's path in NAMEPath.
func passAsFile(in environInput, vars map[string]string) []buildFile {
	var files []buildFile
	for _, v := range in.Drv.Env {
		if !slices.Contains(in.Options.PassAsFile, v.Name) {
			vars[v.Name] = v.Value
			continue
		}
		name := drv.PassAsFileName(v.Name)
		vars[v.Name+"Path"] = path.Join(in.BuildDir, name)
		files = append(files, buildFile{Name: name, Contents: []byte(v.Value), Told: true})
	}
	return files
}

const (
	attrsJSONFile = ".attrs.json"
	attrsShFile   = ".attrs.sh"
)

// rewrites replaces hash parts and placeholders in text.
type rewrites map[string]string

func (r rewrites) apply(s string) string {
	for from, to := range r {
		s = strings.ReplaceAll(s, from, to)
	}
	return s
}

func (r rewrites) applyAll(list []string) []string {
	if len(r) == 0 {
		return list
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = r.apply(s)
	}
	return out
}
