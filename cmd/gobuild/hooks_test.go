package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNamesMachines(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"machines": "ssh://host\n", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for builders, want := range map[string]bool{
		"": false, " ; \n": false, "# none": false, "@/nonexistent": false, "@" + dir + "/empty": false,
		"ssh://host x86_64-linux": true, "@/nonexistent\nhost": true, "@" + dir + "/machines": true, "# one:\n host": true,
	} {
		if got := namesMachines(builders); got != want {
			t.Errorf("%q: %v", builders, got)
		}
	}
}

func TestEscaped(t *testing.T) {
	for path, want := range map[string]string{"/nix/store": "/nix/store", "/a b&c=ü%": "/a%20b%26c%3D%C3%BC%25", "~/x_y-z.1": "~/x_y-z.1"} {
		if got := escaped(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
