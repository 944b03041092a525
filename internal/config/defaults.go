package config

import (
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Defaults makes the settings as they are before any file is read. It fails
// only on a malformed table, which a test rules out.
func Defaults(env func(string) string, opts Options) (*Settings, error) {
	s := new(Settings)
	for i := range table {
		def := &table[i]
		if def.initial == "" {
			continue
		}
		if err := def.value(s).parse(def.name, def.initial); err != nil {
			return nil, err
		}
	}
	s.fromEnvironment(env, opts.ConfDir)
	s.fromMachine(opts)
	return s, nil
}

func (s *Settings) fromEnvironment(env func(string) string, confDir string) {
	if url := env("NIX_REMOTE"); url != "" {
		s.Store = url
	}
	s.LegacyBuildHook = env("NIX_BUILD_HOOK")
	s.Builders = "@" + confDir + "/machines"
	if files := nonEmpty(env("NIX_REMOTE_SYSTEMS")); len(files) > 0 {
		s.Builders = "@" + strings.Join(files, "\n@")
	}
	s.NetrcFile = confDir + "/netrc"
	s.AllowSymlinkedStore = env("NIX_IGNORE_SYMLINK_STORE") == "1"
	s.SSLCertFile = firstOf(env("NIX_SSL_CERT_FILE"), env("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt")
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func (s *Settings) fromMachine(opts Options) {
	s.System = firstOf(opts.System, compiledSystem())
	s.ExtraPlatforms = extraPlatforms(s.System)
	s.Cores = callOr(opts.CPUs, availableCPUs)
	s.SystemFeatures = []string{"benchmark", "big-parallel", "nixos-test"}
	if callOr(opts.KVM, kvmUsable) {
		s.SystemFeatures = []string{"benchmark", "big-parallel", "kvm", "nixos-test"}
	}
	if opts.FindShell != nil {
		if sh := opts.FindShell(); sh != "" {
			s.SandboxPaths = []string{"/bin/sh=" + sh}
		}
	}
	s.RequireDropSupplementaryGroups = opts.Root
	if opts.Root {
		s.defaultUsers(opts.HasGroup)
	}
}

func callOr[T any](f, otherwise func() T) T {
	if f == nil {
		f = otherwise
	}
	return f()
}

// defaultUsers lets root build under other ids out of the box: with the
// customary group if somebody made it, else with ids of no account at all.
func (s *Settings) defaultUsers(hasGroup func(string) bool) {
	const group = "nixbld"
	if hasGroup != nil && hasGroup(group) {
		s.BuildUsersGroup = group
	} else {
		s.AutoAllocateUIDs = true
	}
}

// compiledSystem is the platform in Nix's words.
func compiledSystem() string {
	cpu := runtime.GOARCH
	switch cpu {
	case "amd64":
		cpu = "x86_64"
	case "arm64":
		cpu = "aarch64"
	case "386":
		cpu = "i686"
	case "arm":
		cpu = "armv7l"
	case "ppc64le":
		cpu = "powerpc64le"
	}
	return cpu + "-" + runtime.GOOS
}

// extraPlatforms leaves out the x86_64-vN-linux that Nix finds: in a virtual
// machine each CPUID instruction costs as much as all the rest of Load.
func extraPlatforms(system string) []string {
	if system != "x86_64-linux" {
		return nil
	}
	return []string{"i686-linux"}
}

func kvmUsable() bool {
	return unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) == nil
}

// availableCPUs counts the processors this process may use, rounding up a
// fraction that its control group is limited to.
func availableCPUs() int {
	n := runtime.NumCPU()
	groups, err := readFile("/proc/self/cgroup")
	if err != nil {
		return n
	}
	for line := range strings.Lines(groups) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			limit, err := readFile("/sys/fs/cgroup" + group + "/cpu.max")
			if err == nil {
				n = limitCPUs(n, limit)
			}
		}
	}
	return n
}

// limitCPUs applies the contents of a cpu.max file, "QUOTA PERIOD" in µs.
func limitCPUs(n int, limit string) int {
	words := strings.Fields(limit)
	if len(words) != 2 {
		return n
	}
	quota, err1 := strconv.ParseInt(words[0], 10, 64) // "max" fails, rightly
	period, err2 := strconv.ParseInt(words[1], 10, 64)
	if err1 != nil || err2 != nil || quota <= 0 || period <= 0 {
		return n
	}
	cpus := quota / period
	if quota%period != 0 {
		cpus++
	}
	return int(min(int64(n), cpus))
}
