package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/config"
	"gobuild/internal/goal"
	"gobuild/internal/sandbox"
	"gobuild/internal/worker"
)

// engine makes the engine that the settings describe.
func (s *session) engine() (*goal.Engine, error) {
	c := s.settings
	policy, err := s.policy()
	if err != nil {
		return nil, err
	}
	users, err := s.users()
	if err != nil {
		return nil, err
	}
	buildHook, err := s.buildHook()
	if err != nil {
		return nil, err
	}
	sources, err := s.sources()
	if err != nil {
		return nil, err
	}
	return goal.New(s.store, goal.Options{
		KeepGoing: c.KeepGoing, KeepFailed: c.KeepFailed, Fallback: c.Fallback,
		Substitute: c.Substitute, Sources: sources, AlwaysSubstitute: c.AlwaysAllowSubstitutes,
		MaxJobs: c.MaxJobs, MaxSubst: c.MaxSubstitutionJobs, Cores: c.Cores,
		Silence: c.MaxSilentTime, Timeout: c.Timeout, PollInterval: c.BuildPollInterval,
		MaxLogSize: c.MaxBuildLogSize, LogLines: c.LogLines, LogDir: s.dirs.Log,
		KeepLog: c.KeepBuildLog, CompressLog: c.CompressBuildLog, BuildTrace: c.PrintBuildTrace,
		CacheFailure: c.CacheFailure, RetryFailed: s.flags.retryFailed,
		System: c.System, Platforms: c.ExtraPlatforms, Features: c.SystemFeatures,
		Mode: s.sandboxMode(), FsyncOutputs: c.FsyncStorePaths, SyncFirst: c.SyncBeforeRegister, IgnoredACLs: c.IgnoredACLs,
		Sandbox: policy, Users: users, StrictFixed: true, SecretKeys: c.SecretKeyFiles,
		RunDiffHook: c.RunDiffHook, DiffHook: c.DiffHook, HookEnv: config.Environ(),
		BuildHook: buildHook, PreBuildHook: c.PreBuildHook, PostBuildHook: c.PostBuildHook, PostBuildEnv: s.postBuildEnv(),
		Builtins: s.builtins(), Getenv: s.impureEnv, Interrupted: interrupts(),
	}, s.logger())
}

// sandboxMode is the mode that was asked for. Less is used only if that was
// asked for, too, and said each time.
func (s *session) sandboxMode() goal.SandboxMode {
	mode := goal.SandboxOn
	switch s.settings.Sandbox {
	case config.SandboxOff:
		return goal.SandboxOff
	case config.SandboxRelaxed:
		mode = goal.SandboxRelaxed
	}
	if s.settings.SandboxFallback {
		if err := sandbox.Probe(); err != nil {
			s.logger().Message(activity.Warn, fmt.Sprintf("building without a sandbox, as 'sandbox-fallback' allows: %v", err))
			return goal.SandboxOff
		}
	}
	return mode
}

// impureEnv is what fixed-output builders may see of the environment.
func (s *session) impureEnv(name string) string {
	if v, ok := s.settings.ImpureEnv[name]; ok {
		return v
	}
	return s.env(name)
}

func (s *session) policy() (*sandbox.Policy, error) {
	c := s.settings
	p := &sandbox.Policy{
		StoreDir: string(s.dirs.Store), RealStoreDir: s.dirs.RealStore, StateDir: s.dirs.State,
		BuildDir: c.BuildDir, SandboxBuildDir: c.SandboxBuildDir, CACert: c.SSLCertFile,
		DevShmSize: c.SandboxDevShmSize, KVM: slices.Contains(c.SystemFeatures, "kvm"),
		FilterSyscalls: c.FilterSyscalls, AllowNewPrivileges: c.AllowNewPrivileges, ImpersonateLinux26: c.ImpersonateLinux26,
		KeepFor: keepFor(s.env),
	}
	for _, item := range c.SandboxPaths {
		b, err := sandbox.ParseBind(item)
		if err != nil {
			return nil, fmt.Errorf("setting 'sandbox-paths': %w", err)
		}
		p.Paths = append(p.Paths, b)
	}
	return p, nil
}

// keepFor is whom the build directories of failed builds are for: whoever
// became root to build. For others they need not change hands.
func keepFor(env func(string) string) *sandbox.Owner {
	uid, uidErr := strconv.ParseUint(env("SUDO_UID"), 10, 32)
	gid, gidErr := strconv.ParseUint(env("SUDO_GID"), 10, 32)
	if os.Geteuid() != 0 || uidErr != nil || gidErr != nil || uid == 0 || max(uid, gid) >= maxUserID {
		return nil
	}
	return &sandbox.Owner{UID: uint32(uid), GID: uint32(gid)}
}

// users are the identities of builders: none for an ordinary user, whose
// builds run as he does.
func (s *session) users() (*sandbox.Users, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	group := s.settings.BuildUsersGroup
	if s.settings.AutoAllocateUIDs {
		group = ""
	}
	start, count := s.settings.StartID, s.settings.IDCount
	if group == "" && (start < 1 || count < sandbox.IDsPerBuild || start+count > maxUserID) {
		return nil, fmt.Errorf("the settings 'start-id' (%d) and 'id-count' (%d) must give at least %d user ids between 1 and %d",
			start, count, sandbox.IDsPerBuild, maxUserID-1)
	}
	return &sandbox.Users{StateDir: s.dirs.State, Group: group, StartID: uint32(start), Count: uint32(count)}, nil
}

// maxUserID is above all user ids; the last number means "no user".
const maxUserID = 1<<32 - 1

// interrupts makes the function by which the loop learns of signals.
func interrupts() func() error {
	// A reader of our messages who goes away must not take the builds along.
	signal.Ignore(unix.SIGPIPE)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	return func() error {
		select {
		case <-signals:
			return worker.ErrInterrupted
		default:
			return nil
		}
	}
}
