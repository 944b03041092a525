package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/config"
	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/remote/buildhook"
	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
	"gobuild/internal/ui"
)

// hookAlias is how Nix calls its own hook: as a program of that name, or as a
// command with two underscores in front.
const hookAlias = "build-remote"

// commandLine is the program's arguments, under whatever name it was started.
func commandLine(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	args := argv[1:]
	switch {
	case path.Base(argv[0]) == hookAlias:
		return append([]string{"hook", "ssh"}, args...)
	case len(args) > 0 && args[0] == "__"+hookAlias:
		return append([]string{"hook", "ssh"}, args[1:]...)
	}
	return args
}

func (a *app) hookCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "hook", Short: "Programs that engines call", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.hookSSHCommand())
	return c
}

func (a *app) hookSSHCommand() *cobra.Command {
	h := &sshHook{app: a}
	c := &cobra.Command{
		Use:   "ssh VERBOSITY | ssh SYSTEM SILENCE TRACE TIMEOUT",
		Short: "Build on other machines for an engine that speaks on standard input",
		Long: "A build hook for gobuild, for Nix (the setting build-hook, or under the name\n\"build-remote\"), and, with four arguments, for engines of Nix 1.x ($NIX_BUILD_HOOK).\n" +
			"The machines are those of the setting builders.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 4 {
				return errors.New("expected one argument, or four")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return h.binary(args[0])
			}
			return h.text(args)
		},
	}
	c.Flags().StringVar(&h.transport, "transport", "", "reach machines by `COMMAND` instead of ssh; %h in it is the host's name")
	return c
}

// An sshHook is what an engine talks to.
type sshHook struct {
	*app
	transport string
}

// binary serves engines of today, which send their settings first.
func (h *sshHook) binary(verbosity string) error {
	level, err := strconv.ParseUint(verbosity, 10, 8)
	if err != nil {
		return &usageError{"gobuild hook ssh", fmt.Errorf("'%s' is not a verbosity", verbosity)}
	}
	h.log = ui.New(ui.Options{Out: h.stderr, Env: h.env, Format: "internal-json", Verbosity: activity.Level(min(level, uint64(activity.Vomit)))})
	asker := buildhook.NewBinary(h.stdin)
	given, err := asker.Settings()
	if err != nil {
		return err
	}
	s, err := h.configureQuietly()
	if err != nil {
		return h.refuse(asker, "", err)
	}
	for _, x := range given {
		// an engine of another make has settings that are none here
		if err := s.settings.Set(x.Name, x.Value); err != nil && !errors.Is(err, config.ErrUnknownSetting) {
			h.logger().Message(activity.Chatty, "ignoring a setting of the engine: "+err.Error())
		}
	}
	if h.flags.root == "" && h.flags.storeDir == "" {
		if err := s.useStore(s.settings.Store); err != nil {
			return h.refuse(asker, s.dirs.Store, err)
		}
	}
	o, err := h.options(s, s.settings.Builders)
	if err != nil {
		return h.refuse(asker, s.dirs.Store, err)
	}
	o.Platforms, o.Features = append(s.settings.ExtraPlatforms, s.settings.System), s.settings.SystemFeatures
	o.Wait = !slices.ContainsFunc(given, func(x buildhook.Setting) bool { return x.Name == ownSetting })
	return buildhook.Run(asker, o)
}

// ownSetting is one that our engine sends and that no Nix has which sends any:
// only ours asks again for a build whose machine was lost.
const ownSetting = "cache-failure"

// text serves engines of Nix 1.x, which say little about themselves.
func (h *sshHook) text(args []string) error {
	h.log = ui.New(ui.Options{Out: h.stderr, Env: h.env, Format: "raw", Verbosity: activity.Info})
	if h.env("NIX_DEBUG_HOOK") != "" {
		h.log = ui.New(ui.Options{Out: h.stderr, Env: h.env, Format: "raw", Verbosity: activity.Chatty})
	}
	var seconds [4]uint64
	for _, i := range []int{1, 2, 3} {
		var err error
		if seconds[i], err = strconv.ParseUint(args[i], 10, 32); err != nil {
			return &usageError{"gobuild hook ssh", fmt.Errorf("'%s' is not a number", args[i])}
		}
	}
	s, err := h.configureQuietly()
	if err != nil {
		return err
	}
	asker := buildhook.NewText(h.stdin)
	s.settings.System = args[0]
	s.settings.MaxSilentTime = time.Duration(seconds[1]) * time.Second
	s.settings.Timeout = time.Duration(seconds[3]) * time.Second
	s.settings.MaxJobs = 1 // whether a slot is free is in each request
	machines := s.settings.Builders
	if file := h.env("NIX_REMOTE_SYSTEMS"); file != "" {
		machines = "@" + strings.ReplaceAll(file, ":", "\n@")
	}
	o, err := h.options(s, machines)
	if err != nil {
		return h.refuse(asker, s.dirs.Store, err)
	}
	o.Platforms, o.Trace = []string{args[0]}, seconds[2] == 1
	return buildhook.Run(asker, o)
}

// configureQuietly leaves out the warnings about settings: the engine has
// shown its own, and would show these with each build.
func (h *sshHook) configureQuietly() (*session, error) {
	log := h.log
	h.log = ui.New(ui.Options{Out: io.Discard})
	defer func() { h.log = log }()
	return h.configure()
}

// refuse shows what is wrong and leaves all builds to the engine.
func (h *sshHook) refuse(asker buildhook.Asker, dir storepath.Dir, err error) error {
	h.logger().Failure(err)
	return buildhook.Run(asker, &buildhook.Options{Dialing: remote.Dialing{Dir: dir}, Reply: h.stderr, Sink: h.logger()})
}

func (h *sshHook) options(s *session, machines string) (*buildhook.Options, error) {
	c := s.settings
	lists := remote.Lists{System: c.System, ReadFile: os.ReadFile}
	list, err := lists.Parse(machines)
	if err != nil {
		return nil, err
	}
	timeout := int(c.ConnectTimeout / time.Second)
	dialing := remote.Dialing{
		Dir: s.dirs.Store, Env: config.Environ(),
		SSH: remote.SSH{Options: strings.Fields(h.env("NIX_SSHOPTS")), Transport: strings.Fields(h.transport), ConnectTimeout: timeout},
		// an engine may stand still until there is an answer
		Patience: 4 * time.Second * time.Duration(max(timeout, remote.DefaultConnectTimeout)),
	}
	load := h.env("NIX_CURRENT_LOAD")
	if load == "" {
		load = s.dirs.State + "/current-load"
	}
	ender := &buildhook.Ender{}
	go endOnSignal(ender)
	return &buildhook.Options{
		Ender: ender, Machines: list, LoadDir: load, Dialing: dialing, MaxJobs: c.MaxJobs, UseSubstitutes: c.BuildersUseSubstitutes,
		Build: protocol.BuildOptions{
			MaxSilentTime: c.MaxSilentTime, Timeout: c.Timeout, MaxLogSize: uint64(c.MaxBuildLogSize),
			Deterministic: true, KeepFailed: c.KeepFailed,
		},
		Open: func() (*store.Store, error) {
			err := s.openStore(writing)
			return s.store, err
		},
		Reply: h.stderr, Log: h.builderLog(), Sink: h.logger(), FirstID: activity.ID(os.Getpid()) << 32,
	}, nil
}

// endOnSignal has a build that is being done clean up behind itself, and ends
// the program if there is none, or if that takes too long.
func endOnSignal(ender *buildhook.Ender) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	sig := <-signals
	if ender.End() {
		time.Sleep(cleaningUp)
	}
	signal.Reset(sig)
	_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
}

// cleaningUp is less than engines wait before they kill.
const cleaningUp = time.Second

// The descriptors that engines give to hooks.
const (
	builderLogFD  = 4 // for what the builder says
	builderReadFD = 5 // the other end of that, of which we have no need
)

// builderLog is where the builder's output goes: what the engine has given us
// for it, unless we were started by hand.
func (h *sshHook) builderLog() io.Writer {
	var log, read unix.Stat_t
	if unix.Fstat(builderLogFD, &log) != nil || !writable(builderLogFD) {
		return h.stderr
	}
	switch log.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFREG, unix.S_IFCHR, unix.S_IFSOCK:
	default: // it is something of the Go runtime
		return h.stderr
	}
	unix.CloseOnExec(builderLogFD) // what runs on in the background must not keep the engine waiting
	if unix.Fstat(builderReadFD, &read) == nil && log.Mode&unix.S_IFMT == unix.S_IFIFO && read.Ino == log.Ino && read.Dev == log.Dev {
		unix.Close(builderReadFD)
	}
	return os.NewFile(builderLogFD, "builder's log")
}

func writable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
}

// useStore makes the store of an engine, by its URL, the session's (settings
// spec, section 5).
func (s *session) useStore(text string) error {
	text, query, _ := strings.Cut(text, "?")
	f := config.DirFlags{}
	switch {
	case text == "auto" || text == "local" || text == "":
	case text == "daemon" || strings.HasPrefix(text, "unix://"): // whose work this hook does
	case strings.HasPrefix(text, "/"):
		f.Root = text
	default:
		return fmt.Errorf("cannot build for the store '%s': a build hook must write to it itself", text)
	}
	if text != "local" {
		query = ""
	}
	params, err := storeParams(query)
	if err != nil {
		return err
	}
	if root, ok := params["root"]; ok {
		f.Root = root
	}
	env := s.env
	if f.Root != "" { // these are directories of the system, not of the root
		env = func(name string) string {
			if name == "NIX_STATE_DIR" || name == "NIX_LOG_DIR" {
				return ""
			}
			return s.env(name)
		}
	}
	dirs, err := config.ResolveDirs(env, f)
	if err != nil {
		return err
	}
	if dir, ok := params["store"]; ok {
		f.StoreDir = dir
		if dirs, err = config.ResolveDirs(env, config.DirFlags{StoreDir: dir, StateDir: dirs.State, LogDir: dirs.Log, Root: f.Root}); err != nil {
			return err
		}
	}
	for name, dir := range map[string]*string{"real": &dirs.RealStore, "state": &dirs.State, "log": &dirs.Log} {
		if given, ok := params[name]; ok {
			if !path.IsAbs(given) {
				return fmt.Errorf("the parameter '%s' of the store's URL, '%s', is not an absolute path", name, given)
			}
			*dir = path.Clean(given)
		}
	}
	s.dirs = dirs
	return nil
}

// storeParams reads the parameters of a store's URL.
func storeParams(query string) (map[string]string, error) {
	params := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, text, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(text)
		if err != nil {
			return nil, fmt.Errorf("bad parameter '%s' of the store's URL: %w", name, err)
		}
		params[name] = value
	}
	return params, nil
}
