package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"gobuild/internal/config"
	"gobuild/internal/goal"
	"gobuild/internal/hook"
	"gobuild/internal/worker/proc"
)

// buildHook is the program that may take over builds, nil if there is none
// (hook spec, section 3).
func (s *session) buildHook() (*hook.Program, error) {
	c := s.settings
	if s.flags.noBuildHook {
		return nil, nil
	}
	if c.LegacyBuildHook != "" && !c.IsSet("build-hook") {
		file := c.LegacyBuildHook
		if err := absolute(&file); err != nil {
			return nil, err
		}
		return hook.NewText(file, hook.TextOptions{
			System: c.System, Silence: c.MaxSilentTime, Timeout: c.Timeout, Trace: c.PrintBuildTrace,
		}, config.Environ()), nil
	}
	if !c.IsSet("build-hook") && namesMachines(c.Builders) {
		own := hook.NewBinary(proc.Self, []string{"__" + hookAlias}, int(s.logger().Verbosity()), config.Environ(), s.hookSettings())
		own.Argv[0] = "gobuild"
		return own, nil
	}
	if len(c.BuildHook) == 0 {
		return nil, nil
	}
	file, err := s.findProgram(c.BuildHook[0])
	if err != nil {
		return nil, fmt.Errorf("setting 'build-hook': %w", err)
	}
	return hook.NewBinary(file, c.BuildHook[1:], int(s.logger().Verbosity()), config.Environ(), s.hookSettings()), nil
}

// namesMachines tells whether a value of the setting builders may name any, so
// that it makes sense to start a program that looks for them.
func namesMachines(builders string) bool {
	for _, item := range strings.FieldsFunc(builders, func(c rune) bool { return c == '\n' || c == ';' }) {
		item = strings.TrimSpace(item)
		if file, ok := strings.CutPrefix(item, "@"); ok {
			if info, err := os.Stat(file); err == nil && info.Size() > 0 {
				return true
			}
		} else if item != "" && item[0] != '#' {
			return true
		}
	}
	return false
}

// findProgram finds a program as a shell does.
func (s *session) findProgram(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, absolute(&name)
	}
	for _, dir := range strings.Split(s.env("PATH"), ":") {
		file := path.Join(dir, name)
		if info, err := os.Stat(file); path.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no program '%s' in $PATH", name)
}

// hookSettings are all settings, with a store that other programs find.
func (s *session) hookSettings() []hook.Setting {
	var all []hook.Setting
	for _, e := range s.settings.Entries() {
		if e.Name == "store" {
			e.Value = s.storeURL()
		}
		all = append(all, hook.Setting{Name: e.Name, Value: e.Value})
	}
	return all
}

// storeURL names the open store for other programs, which may have other
// defaults than ours.
func (s *session) storeURL() string {
	d := s.dirs
	if d.Store == "/nix/store" && d.RealStore == "/nix/store" && d.State == "/nix/var/nix" {
		return "local"
	}
	return "local?store=" + escaped(string(d.Store)) + "&real=" + escaped(d.RealStore) +
		"&state=" + escaped(d.State) + "&log=" + escaped(d.Log)
}

// escaped is a path as a value in a URL's query.
func escaped(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("/-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// postBuildEnv is the environment of the post-build-hook but for what it says
// of a build.
func (s *session) postBuildEnv() []string {
	if s.settings.PostBuildHook == "" {
		return nil
	}
	var b strings.Builder
	for _, x := range s.hookSettings() {
		fmt.Fprintf(&b, "%s = %s\n", x.Name, x.Value)
	}
	env := []string{"NIX_CONFIG=" + b.String()}
	for _, v := range config.Environ() {
		if !strings.HasPrefix(v, "NIX_CONFIG=") {
			env = append(env, v)
		}
	}
	return env
}

// substituterPrograms are the programs of $NIX_SUBSTITUTERS.
func (s *session) substituterPrograms() ([]goal.Source, error) {
	var sources []goal.Source
	var env []string
	for _, file := range strings.Split(s.env("NIX_SUBSTITUTERS"), ":") {
		if file == "" || file == "default" { // which stands for what is built in
			continue
		}
		if err := absolute(&file); err != nil {
			return nil, err
		}
		if env == nil {
			options, err := hook.PackOptions(s.givenSettings())
			if err != nil {
				return nil, err
			}
			env = append(config.Environ(), hook.OptionsVariable+"="+options)
		}
		sources = append(sources, goal.NewSubstituterProgram(hook.Substituter{Path: file, Env: env}))
	}
	return sources, nil
}

// givenSettings are those that somebody has set.
func (s *session) givenSettings() []hook.Setting {
	var given []hook.Setting
	for _, x := range s.hookSettings() {
		if s.settings.IsSet(x.Name) {
			given = append(given, x)
		}
	}
	return given
}
