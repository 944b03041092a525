package config

import "strings"

// An access says who may give a setting through a daemon.
type access bool

// Restricted is the zero value: a new setting is closed until someone has
// thought about it.
const (
	restricted access = false
	open       access = true
)

// A definition is one setting: everything that is to be known about it.
type definition struct {
	name    string
	aliases string // older names, separated by spaces
	initial string // the default in nix.conf syntax, where it is constant
	access  access
	doc     string
	value   func(*Settings) value
}

// find gives the position of a name in the table, or -1. For "extra-" and the
// name of a list, appending is set.
func find(name string) (i int, appending bool) {
	if i := lookup(name); i >= 0 {
		return i, false
	}
	rest, ok := strings.CutPrefix(name, "extra-")
	if !ok {
		return -1, false
	}
	i = lookup(rest)
	if i < 0 {
		return -1, false
	}
	if _, ok := table[i].value(&Settings{}).(appender); !ok {
		return -1, false
	}
	return i, true
}

// lookup scans: a file has few lines, and building an index would cost more
// than it saves.
func lookup(name string) int {
	for i := range table {
		if table[i].name == name || hasWord(table[i].aliases, name) {
			return i
		}
	}
	return -1
}

func hasWord(words, word string) bool {
	for words != "" {
		var first string
		first, words, _ = strings.Cut(words, " ")
		if first == word {
			return true
		}
	}
	return false
}

// ignored says whether Nix knows the name but it does not concern a builder or
// a store: settings of the evaluator, of flakes, and ones gone long ago.
func ignored(name string) bool {
	return hasWord(foreign, name) || hasWord(foreign, strings.TrimPrefix(name, "extra-"))
}

const foreign = "accept-flake-config access-tokens allow-dirty allow-dirty-locks " +
	"allow-import-from-derivation allow-unsafe-native-code-during-evaluation allowed-uris " +
	"abort-on-warn auto-update bash-prompt bash-prompt-prefix bash-prompt-suffix " +
	"binary-caches-files build-hook-kill-timeout commit-lock-file-summary " +
	"commit-lockfile-summary debugger-on-trace debugger-on-warn eval-cache eval-cores " +
	"eval-profile-file eval-profiler eval-profiler-frequency eval-system external-builders " +
	"flake-registry gc-check-reachability ignore-try json-log-path lazy-trees " +
	"log-format max-call-depth narinfo-cache-meta-ttl nix-path " +
	"nix-shell-always-looks-for-shell-nix " +
	"nix-shell-shebang-arguments-relative-to-script preallocate-contents pure-eval " +
	"repl-overlays restrict-eval signed-binary-caches ssh-auth-sock ssh-substituter-hosts " +
	"tarball-ttl trace-function-calls trace-import-from-derivation trace-verbose " +
	"trust-tarballs-from-git-forges untrusted-binary-caches upgrade-nix-store-path-url " +
	"use-binary-caches use-case-hack use-registries use-ssh-substituter " +
	"use-xdg-base-directories warn-dirty warn-large-path-threshold warn-short-path-literals"

// table is sorted by name.
var table = []definition{
	{"allow-new-privileges", "", "false", restricted, "let builders gain privileges through set-uid programs",
		func(s *Settings) value { return (*boolean)(&s.AllowNewPrivileges) }},
	{"allow-symlinked-store", "", "false", restricted, "accept a store directory that is reached through a symlink",
		func(s *Settings) value { return (*boolean)(&s.AllowSymlinkedStore) }},
	{"allowed-impure-host-deps", "", "", restricted, "host paths that derivations may ask for",
		func(s *Settings) value { return (*set)(&s.AllowedImpureHostDeps) }},
	{"allowed-users", "", "*", restricted, "users and @groups that may connect to the daemon",
		func(s *Settings) value { return (*list)(&s.AllowedUsers) }},
	{"always-allow-substitutes", "", "false", restricted, "substitute even what says allowSubstitutes = false",
		func(s *Settings) value { return (*boolean)(&s.AlwaysAllowSubstitutes) }},
	{"auto-allocate-uids", "", "false", restricted, "take build user ids from a range instead of a group",
		func(s *Settings) value { return (*boolean)(&s.AutoAllocateUIDs) }},
	{"auto-optimise-store", "", "false", restricted, "hard-link equal files as paths are registered",
		func(s *Settings) value { return (*boolean)(&s.AutoOptimiseStore) }},
	{"build-dir", "", "", restricted, "where temporary build directories are made",
		func(s *Settings) value { return (*optionalPath)(&s.BuildDir) }},
	{"build-hook", "", "", restricted, "program and arguments that may take over builds; empty for none",
		func(s *Settings) value { return (*list)(&s.BuildHook) }},
	{"build-poll-interval", "poll-interval", "5", open, "how often to try a busy lock again",
		func(s *Settings) value { return (*seconds)(&s.BuildPollInterval) }},
	{"build-users-group", "", "", restricted, "group whose members are the build users; empty for none",
		func(s *Settings) value { return (*text)(&s.BuildUsersGroup) }},
	{"builders", "", "", restricted, "remote machines, or @FILE naming them",
		func(s *Settings) value { return (*text)(&s.Builders) }},
	{"builders-use-substitutes", "", "false", restricted, "let remote machines substitute inputs themselves",
		func(s *Settings) value { return (*boolean)(&s.BuildersUseSubstitutes) }},
	{"cache-failure", "build-cache-failure", "false", restricted, "remember failed builds and do not repeat them",
		func(s *Settings) value { return (*boolean)(&s.CacheFailure) }},
	{"compress-build-log", "build-compress-log", "true", restricted, "store build logs compressed with bzip2",
		func(s *Settings) value { return (*boolean)(&s.CompressBuildLog) }},
	{"connect-timeout", "", "0", open, "limit for making a network connection; 0 for 5",
		func(s *Settings) value { return (*seconds)(&s.ConnectTimeout) }},
	{"cores", "build-cores", "", open, "processors a build may use ($NIX_BUILD_CORES); 0 for all",
		func(s *Settings) value { return (*integer)(&s.Cores) }},
	{"diff-hook", "", "", restricted, "program run when a repeated build differs",
		func(s *Settings) value { return (*optionalPath)(&s.DiffHook) }},
	{"download-attempts", "", "5", restricted, "how often a download is tried",
		func(s *Settings) value { return (*integer)(&s.DownloadAttempts) }},
	{"download-buffer-size", "", "67108864", restricted, "memory for data on its way from the network",
		func(s *Settings) value { return (*size)(&s.DownloadBufferSize) }},
	{"download-speed", "", "0", restricted, "limit in KiB per second; 0 for none",
		func(s *Settings) value { return (*size)(&s.DownloadSpeed) }},
	{"enforce-determinism", "", "true", restricted, "accepted for old configurations, has no effect",
		func(s *Settings) value { return (*boolean)(&s.DeprecatedDeterminism) }},
	{"experimental-features", "", "", restricted, "accepted for Nix's sake; nothing depends on it",
		func(s *Settings) value { return (*set)(&s.ExperimentalFeatures) }},
	{"extra-platforms", "", "", restricted, "platforms that can be built besides the system",
		func(s *Settings) value { return (*set)(&s.ExtraPlatforms) }},
	{"fallback", "build-fallback", "false", open, "build what a substituter failed to deliver",
		func(s *Settings) value { return (*boolean)(&s.Fallback) }},
	{"filter-syscalls", "", "true", restricted, "forbid builders the system calls that make set-uid files and such",
		func(s *Settings) value { return (*boolean)(&s.FilterSyscalls) }},
	{"fsync-metadata", "", "true", restricted, "make database changes durable at once",
		func(s *Settings) value { return (*boolean)(&s.FsyncMetadata) }},
	{"fsync-store-paths", "", "false", restricted, "flush outputs to disk before registering them",
		func(s *Settings) value { return (*boolean)(&s.FsyncStorePaths) }},
	{"gc-reserved-space", "", "8388608", restricted, "size of a file deleted when the collector needs room",
		func(s *Settings) value { return (*size)(&s.GCReservedSpace) }},
	{"hashed-mirrors", "", "", restricted, "servers that hold files by their hash, for builtin:fetchurl",
		func(s *Settings) value { return (*list)(&s.HashedMirrors) }},
	{"http-connections", "binary-caches-parallel-connections", "25", restricted, "parallel network connections; 0 for no limit",
		func(s *Settings) value { return (*integer)(&s.HTTPConnections) }},
	{"http2", "", "true", restricted, "use HTTP/2",
		func(s *Settings) value { return (*boolean)(&s.HTTP2) }},
	{"id-count", "", "8388608", restricted, "number of ids auto-allocate-uids may use",
		func(s *Settings) value { return (*size)(&s.IDCount) }},
	{"ignored-acls", "", "security.csm security.selinux system.nfs4_acl", restricted, "extended attributes left alone in the store",
		func(s *Settings) value { return (*set)(&s.IgnoredACLs) }},
	{"impersonate-linux-26", "build-impersonate-linux-26", "false", restricted, "let builders see a Linux 2.6 kernel",
		func(s *Settings) value { return (*boolean)(&s.ImpersonateLinux26) }},
	{"impure-env", "", "", restricted, "environment for impureEnvVars, as NAME=VALUE",
		func(s *Settings) value { return (*dict)(&s.ImpureEnv) }},
	{"keep-build-log", "build-keep-log", "true", restricted, "store build logs",
		func(s *Settings) value { return (*boolean)(&s.KeepBuildLog) }},
	{"keep-derivations", "gc-keep-derivations", "true", restricted, "keep the derivations of live outputs",
		func(s *Settings) value { return (*boolean)(&s.KeepDerivations) }},
	{"keep-env-derivations", "env-keep-derivations", "false", restricted, "let profiles keep derivations",
		func(s *Settings) value { return (*boolean)(&s.KeepEnvDerivations) }},
	{"keep-failed", "", "false", open, "keep the temporary directory of a failed build",
		func(s *Settings) value { return (*boolean)(&s.KeepFailed) }},
	{"keep-going", "", "false", open, "carry on with other builds after a failure",
		func(s *Settings) value { return (*boolean)(&s.KeepGoing) }},
	{"keep-outputs", "gc-keep-outputs", "false", restricted, "keep the outputs of live derivations",
		func(s *Settings) value { return (*boolean)(&s.KeepOutputs) }},
	{"log-lines", "", "25", restricted, "last log lines shown when a build fails",
		func(s *Settings) value { return (*integer)(&s.LogLines) }},
	{"max-build-log-size", "build-max-log-size", "0", restricted, "stop builders that write more; 0 for no limit",
		func(s *Settings) value { return (*size)(&s.MaxBuildLogSize) }},
	{"max-free", "", "9223372036854775807", restricted, "free space at which an automatic collection stops",
		func(s *Settings) value { return (*size)(&s.MaxFree) }},
	{"max-jobs", "build-max-jobs", "1", open, "local builds at the same time, or auto",
		func(s *Settings) value { return (*jobs)(&s.MaxJobs) }},
	{"max-silent-time", "build-max-silent-time", "0", open, "stop builders that are silent longer; 0 for no limit",
		func(s *Settings) value { return (*seconds)(&s.MaxSilentTime) }},
	{"max-substitution-jobs", "substitution-max-jobs", "16", restricted, "substitutions at the same time",
		func(s *Settings) value { return (*integer)(&s.MaxSubstitutionJobs) }},
	{"min-free", "", "0", restricted, "free space below which a collection starts; 0 for never",
		func(s *Settings) value { return (*size)(&s.MinFree) }},
	{"min-free-check-interval", "", "5", restricted, "time between checks of free space",
		func(s *Settings) value { return (*seconds)(&s.MinFreeCheckInterval) }},
	{"nar-buffer-size", "", "33554432", restricted, "largest archive kept in memory",
		func(s *Settings) value { return (*size)(&s.NarBufferSize) }},
	{"narinfo-cache-negative-ttl", "", "3600", restricted, "how long a cache's \"no\" is believed",
		func(s *Settings) value { return (*seconds)(&s.NarinfoCacheNegativeTTL) }},
	{"narinfo-cache-positive-ttl", "", "2592000", restricted, "how long a cache's \"yes\" is believed",
		func(s *Settings) value { return (*seconds)(&s.NarinfoCachePositiveTTL) }},
	{"netrc-file", "", "", restricted, "passwords for servers, in curl's netrc form",
		func(s *Settings) value { return (*text)(&s.NetrcFile) }},
	{"plugin-files", "", "", restricted, "not supported: plug-ins are never loaded",
		func(s *Settings) value { return (*list)(&s.PluginFiles) }},
	{"post-build-hook", "", "", restricted, "program run after each successful build",
		func(s *Settings) value { return (*text)(&s.PostBuildHook) }},
	{"pre-build-hook", "", "", restricted, "program that may add sandbox paths before a build",
		func(s *Settings) value { return (*text)(&s.PreBuildHook) }},
	{"print-build-trace", "", "false", open, "report builds on standard error for programs, one line each",
		func(s *Settings) value { return (*boolean)(&s.PrintBuildTrace) }},
	{"print-missing", "", "true", restricted, "print what will be built and fetched",
		func(s *Settings) value { return (*boolean)(&s.PrintMissing) }},
	{"repeat", "build-repeat", "0", open, "accepted for old configurations, has no effect",
		func(s *Settings) value { return (*integer)(&s.DeprecatedRepeat) }},
	{"require-drop-supplementary-groups", "", "false", restricted, "fail if supplementary groups cannot be dropped",
		func(s *Settings) value { return (*boolean)(&s.RequireDropSupplementaryGroups) }},
	{"require-sigs", "", "true", restricted, "accept only signed paths from elsewhere",
		func(s *Settings) value { return (*boolean)(&s.RequireSigs) }},
	{"run-diff-hook", "", "false", restricted, "run diff-hook",
		func(s *Settings) value { return (*boolean)(&s.RunDiffHook) }},
	{"sandbox", "build-use-chroot build-use-sandbox", "true", restricted, "run builders in a sandbox: true, false or relaxed",
		func(s *Settings) value { return &s.Sandbox }},
	{"sandbox-build-dir", "", "/build", restricted, "the build directory as seen inside the sandbox",
		func(s *Settings) value { return (*absolutePath)(&s.SandboxBuildDir) }},
	{"sandbox-dev-shm-size", "", "50%", restricted, "size of /dev/shm in the sandbox",
		func(s *Settings) value { return (*text)(&s.SandboxDevShmSize) }},
	{"sandbox-fallback", "", "false", restricted, "build without a sandbox where none can be made",
		func(s *Settings) value { return (*boolean)(&s.SandboxFallback) }},
	{"sandbox-paths", "build-chroot-dirs build-sandbox-paths", "", restricted, "paths visible in the sandbox, as TARGET or TARGET=SOURCE",
		func(s *Settings) value { return (*set)(&s.SandboxPaths) }},
	{"secret-key-files", "", "", restricted, "keys to sign locally built paths with",
		func(s *Settings) value { return (*list)(&s.SecretKeyFiles) }},
	{"show-trace", "", "false", restricted, "show where errors came from",
		func(s *Settings) value { return (*boolean)(&s.ShowTrace) }},
	{"ssl-cert-file", "", "", restricted, "certificates that are trusted",
		func(s *Settings) value { return (*text)(&s.SSLCertFile) }},
	{"stalled-download-timeout", "", "300", restricted, "give up downloads that stand still",
		func(s *Settings) value { return (*seconds)(&s.StalledDownloadTimeout) }},
	{"start-id", "", "872415232", restricted, "first id auto-allocate-uids may use",
		func(s *Settings) value { return (*size)(&s.StartID) }},
	{"store", "", "auto", restricted, "URL of the store to use",
		func(s *Settings) value { return (*text)(&s.Store) }},
	{"substitute", "build-use-substitutes", "true", open, "look for finished paths in caches before building",
		func(s *Settings) value { return (*boolean)(&s.Substitute) }},
	{"substituters", "binary-caches", "", open, "URLs of caches, best first",
		func(s *Settings) value { return (*list)(&s.Substituters) }},
	{"sync-before-registering", "", "false", restricted, "flush all file systems before registering paths",
		func(s *Settings) value { return (*boolean)(&s.SyncBeforeRegister) }},
	{"system", "", "", restricted, "the platform to build for",
		func(s *Settings) value { return (*text)(&s.System) }},
	{"system-features", "", "", restricted, "features derivations may require",
		func(s *Settings) value { return (*set)(&s.SystemFeatures) }},
	{"timeout", "build-timeout", "0", open, "stop builders that run longer; 0 for no limit",
		func(s *Settings) value { return (*seconds)(&s.Timeout) }},
	{"trusted-public-keys", "binary-cache-public-keys", "", restricted, "keys whose signatures count",
		func(s *Settings) value { return (*list)(&s.TrustedPublicKeys) }},
	{"trusted-substituters", "trusted-binary-caches", "", restricted, "caches that untrusted users may name",
		func(s *Settings) value { return (*set)(&s.TrustedSubstituters) }},
	{"trusted-users", "", "root", restricted, "users and @groups that may do anything through the daemon",
		func(s *Settings) value { return (*list)(&s.TrustedUsers) }},
	{"use-cgroups", "", "false", restricted, "run each build in a control group",
		func(s *Settings) value { return (*boolean)(&s.UseCgroups) }},
	{"use-sqlite-wal", "", "true", restricted, "keep the database in write-ahead mode",
		func(s *Settings) value { return (*boolean)(&s.UseSQLiteWAL) }},
	{"user-agent-suffix", "", "", restricted, "text after the program's name in network requests",
		func(s *Settings) value { return (*text)(&s.UserAgentSuffix) }},
}
