// Package config reads nix.conf-compatible settings and finds gobuild's
// directories; it is the only package that reads configuration files and the
// environment for them (settings spec, sections 1, 2 and 4).
package config

import (
	"errors"
	"time"
)

// A SandboxMode says when builders run in a sandbox.
type SandboxMode int

// The sandbox modes. Relaxed lets a derivation opt out with __noChroot.
const (
	SandboxOff SandboxMode = iota
	SandboxOn
	SandboxRelaxed
)

// Settings holds the value of every setting that concerns a builder or a
// store. Times of zero mean "no limit", as do sizes unless said otherwise.
// A copy made by assignment is independent: setting a list replaces it and
// never writes into the old one, and holders must not write into it either.
type Settings struct {
	// What to build, and how much at once.
	Store               string // store URL
	KeepFailed          bool
	KeepGoing           bool
	Fallback            bool
	LogLines            int
	MaxJobs             int
	MaxSubstitutionJobs int
	Cores               int // 0 means all
	System              string
	ExtraPlatforms      []string // sorted
	SystemFeatures      []string // sorted
	MaxSilentTime       time.Duration
	Timeout             time.Duration
	MaxBuildLogSize     int64 // bytes, uncompressed
	BuildPollInterval   time.Duration
	KeepBuildLog        bool
	CompressBuildLog    bool
	PrintBuildTrace     bool
	CacheFailure        bool
	PrintMissing        bool
	ShowTrace           bool

	// Programs that take part.
	BuildHook              []string // program and arguments; empty is none
	LegacyBuildHook        string   // $NIX_BUILD_HOOK, unless build-hook is set
	Builders               string
	BuildersUseSubstitutes bool
	RunDiffHook            bool
	DiffHook               string
	PreBuildHook           string
	PostBuildHook          string

	// The builder's world.
	Sandbox                        SandboxMode
	SandboxPaths                   []string // TARGET[=SOURCE][?], sorted
	SandboxFallback                bool
	SandboxBuildDir                string
	SandboxDevShmSize              string // a size for mount(8)'s tmpfs
	BuildDir                       string // empty: the caller's default
	BuildUsersGroup                string
	AutoAllocateUIDs               bool
	StartID                        int64
	IDCount                        int64
	UseCgroups                     bool
	ImpersonateLinux26             bool
	FilterSyscalls                 bool
	AllowNewPrivileges             bool
	RequireDropSupplementaryGroups bool
	AllowedImpureHostDeps          []string // sorted
	ImpureEnv                      map[string]string

	// The store.
	FsyncMetadata        bool
	FsyncStorePaths      bool
	SyncBeforeRegister   bool
	UseSQLiteWAL         bool
	GCReservedSpace      int64 // bytes
	KeepOutputs          bool
	KeepDerivations      bool
	KeepEnvDerivations   bool
	AutoOptimiseStore    bool
	MinFree              int64 // bytes; 0 disables automatic collection
	MaxFree              int64 // bytes
	MinFreeCheckInterval time.Duration
	NarBufferSize        int64    // bytes
	IgnoredACLs          []string // sorted
	AllowSymlinkedStore  bool

	// Substitution, caches and the network.
	Substitute              bool
	Substituters            []string // in order of preference
	TrustedSubstituters     []string // sorted
	TrustedPublicKeys       []string // NAME:BASE64
	SecretKeyFiles          []string
	RequireSigs             bool
	AlwaysAllowSubstitutes  bool
	NarinfoCacheNegativeTTL time.Duration
	NarinfoCachePositiveTTL time.Duration
	HTTPConnections         int
	HTTP2                   bool
	DownloadAttempts        int
	ConnectTimeout          time.Duration
	StalledDownloadTimeout  time.Duration
	DownloadBufferSize      int64 // bytes
	DownloadSpeed           int64 // KiB per second
	NetrcFile               string
	SSLCertFile             string
	HashedMirrors           []string
	UserAgentSuffix         string
	ExperimentalFeatures    []string // sorted; recorded, nothing depends on it
	TrustedUsers            []string
	AllowedUsers            []string
	PluginFiles             []string // never loaded
	DeprecatedRepeat        int      // accepted for old files, without effect
	DeprecatedDeterminism   bool     // likewise

	touched    bits // given by anybody
	overridden bits // given by anything but the system's nix.conf
}

// ErrUnknownSetting is wrapped by errors about names that are no setting.
// Callers turn it into a warning, as Nix does.
var ErrUnknownSetting = errors.New("unknown setting")

// A ValueError is the error of a value that does not fit its setting.
type ValueError struct{ Text string }

func (e *ValueError) Error() string { return e.Text }

// bits is a set of positions in the table.
type bits [4]uint64

func (b *bits) add(i int)      { b[i/64] |= 1 << (i % 64) }
func (b *bits) drop(i int)     { b[i/64] &^= 1 << (i % 64) }
func (b *bits) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// Set gives a setting a value from the command line, $NIX_CONFIG or a client.
// The name may be an alias, or "extra-" and the name of a list to append to.
// It returns ErrUnknownSetting, wrapped, or a *ValueError.
func (s *Settings) Set(name, value string) error { return s.set(name, value, true) }

func (s *Settings) set(name, value string, overrides bool) error {
	i, appending := find(name)
	if i < 0 {
		if ignored(name) {
			return nil
		}
		return &unknownSettingError{name}
	}
	def := &table[i]
	v := def.value(s)
	if appending {
		v.(appender).add(value)
	} else if err := v.parse(def.name, value); err != nil {
		return err
	}
	s.touched.add(i)
	if overrides {
		s.overridden.add(i)
	} else {
		s.overridden.drop(i)
	}
	s.settleUsers(def.name)
	return nil
}

// settleUsers withdraws the default way of finding build users once the user
// has named another.
func (s *Settings) settleUsers(changed string) {
	if changed == "build-users-group" && !s.IsSet("auto-allocate-uids") {
		s.AutoAllocateUIDs = false
	}
}

type unknownSettingError struct{ name string }

func (e *unknownSettingError) Error() string { return "unknown setting '" + e.name + "'" }
func (e *unknownSettingError) Unwrap() error { return ErrUnknownSetting }

// IsSet says whether any file, variable or flag gave the setting a value.
func (s *Settings) IsSet(name string) bool {
	i, _ := find(name)
	return i >= 0 && s.touched.has(i)
}

// An Entry is one setting with its value in nix.conf syntax.
type Entry struct {
	Name, Value, Default string
	Kind                 Kind
	Doc                  string
	Overridden           bool // by anything but the system's nix.conf
}

// Entries lists all settings by name. The defaults are those that do not
// depend on the machine.
func (s *Settings) Entries() []Entry {
	out := make([]Entry, len(table))
	for i := range table {
		def := &table[i]
		v := def.value(s)
		out[i] = Entry{
			Name: def.name, Value: v.String(), Default: def.initial,
			Kind: v.kind(), Doc: def.doc, Overridden: s.overridden.has(i),
		}
	}
	return out
}

// Value is the value of a setting in nix.conf syntax; ok is false if there is
// no setting of that name.
func (s *Settings) Value(name string) (value string, ok bool) {
	i, appending := find(name)
	if i < 0 || appending {
		return "", false
	}
	return table[i].value(s).String(), true
}

// Restricted says whether an untrusted client of a daemon may not give the
// setting; unknown names are restricted.
func Restricted(name string) bool {
	i, _ := find(name)
	return i < 0 || table[i].access != open
}
