package nixtest

import "testing"

// RepairPaths has an engine repair paths by their names.
func (e Engine) RepairPaths(t testing.TB, tools Tools, s *Store, paths ...string) Result {
	t.Helper()
	args := append(append([]string{tools.NixStore}, s.storeArgs()...), "--repair-path")
	if e.Name == "gobuild" {
		args = []string{gobuildBinary(t), "repair-path"}
		if s.Mode != Plain {
			args = append(args, "--root", s.Root)
		}
	}
	return e.start(t, s, append(args, paths...), nil).Wait(t)
}
