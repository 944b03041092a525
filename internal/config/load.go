package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Warning is a message for the user, without "warning: ".
type Warning string

// Options says where settings come from and what the machine is like. The
// functions are only called when their answer is needed; nil ones answer no.
type Options struct {
	ConfDir     string // from ResolveDirs
	NoUserFiles bool   // skip users' files, as a daemon may want
	Root        bool   // the effective user is root

	System    string                       // platform; "" for the one compiled for
	CPUs      func() int                   // nil asks the kernel
	KVM       func() bool                  // may builders use /dev/kvm?; nil asks the kernel
	FindShell func() string                // path of a static shell for /bin/sh, or ""
	HasGroup  func(name string) bool       // does the group exist?
	ReadFile  func(string) (string, error) // nil reads from disk
}

// Load makes the settings of one run: defaults, then the system's nix.conf,
// users' files and $NIX_CONFIG. Flags are the caller's to Set afterwards.
func Load(env func(string) string, opts Options) (*Settings, []Warning, error) {
	s, err := Defaults(env, opts)
	if err != nil {
		return nil, nil, err
	}
	l := loader{settings: s, open: opts.ReadFile}
	if l.open == nil {
		l.open = readFile
	}
	if err := l.file(opts.ConfDir + "/nix.conf"); err != nil {
		return nil, nil, err
	}
	if !opts.NoUserFiles {
		if err := l.user(env); err != nil {
			return nil, nil, err
		}
	}
	if text := env("NIX_CONFIG"); text != "" {
		l.overrides = true
		if err := l.text(text, "NIX_CONFIG"); err != nil {
			return nil, nil, err
		}
	}
	if s.IsSet("build-hook") {
		s.LegacyBuildHook = ""
	}
	return s, l.warnings, nil
}

// A loader applies one source after another.
type loader struct {
	settings  *Settings
	open      func(string) (string, error)
	warnings  []Warning
	overrides bool // the source counts as the user's own
}

// user applies the users' files, lowest priority first.
func (l *loader) user(env func(string) string) error {
	l.overrides = true
	for _, f := range slices.Backward(UserFiles(env)) {
		if err := l.file(f); err != nil {
			return err
		}
	}
	return nil
}

// UserFiles lists the users' configuration files, highest priority first,
// whether they exist or not.
func UserFiles(env func(string) string) []string {
	if list := env("NIX_USER_CONF_FILES"); list != "" {
		return nonEmpty(list)
	}
	var files []string
	if dir := env("NIX_CONFIG_HOME"); dir != "" {
		files = append(files, dir+"/nix.conf")
	} else if dir := env("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, dir+"/nix/nix.conf")
	} else if home := env("HOME"); home != "" {
		files = append(files, home+"/.config/nix/nix.conf")
	}
	dirs := env("XDG_CONFIG_DIRS")
	if dirs == "" {
		dirs = "/etc/xdg"
	}
	for _, dir := range nonEmpty(dirs) {
		files = append(files, dir+"/nix/nix.conf")
	}
	return files
}

func nonEmpty(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ":"), func(s string) bool { return s == "" })
}

// file applies a file; one that is missing or unreadable is as good as empty.
func (l *loader) file(name string) error {
	text, err := l.open(name)
	if err != nil {
		return nil
	}
	return l.text(text, name)
}

func (l *loader) text(text, file string) error {
	lines, err := parse(text, file, l.open)
	if err != nil {
		return err
	}
	spelling := map[int]string{}
	for _, a := range lines {
		l.noteAlias(spelling, a.name)
		err := l.settings.set(a.name, a.value, l.overrides)
		if errors.Is(err, ErrUnknownSetting) {
			l.warn(err.Error())
		} else if err != nil {
			return err
		}
	}
	if len(l.settings.PluginFiles) > 0 {
		l.warn("plug-ins are not supported; ignoring 'plugin-files'")
	}
	return nil
}

// noteAlias warns about one setting under two names in a file. The later line
// wins, as in Nix, which may not be what was meant.
func (l *loader) noteAlias(spelling map[int]string, name string) {
	i, appending := find(name)
	if i < 0 || appending {
		return
	}
	other, seen := spelling[i]
	if seen && other != name {
		alias := name
		if alias == table[i].name {
			alias = other
		}
		l.warn(fmt.Sprintf("setting '%s' is set, but it's an alias of '%s' which is also set",
			alias, table[i].name))
	}
	spelling[i] = name
}

// warn keeps a warning unless there is one like it already.
func (l *loader) warn(text string) {
	if !slices.Contains(l.warnings, Warning(text)) {
		l.warnings = append(l.warnings, Warning(text))
	}
}
