package goal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dsnet/compress/bzip2"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/sandbox"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// SandboxMode says when builders are isolated.
type SandboxMode uint8

// The modes.
const (
	SandboxOn      SandboxMode = iota // always
	SandboxRelaxed                    // except fixed outputs and derivations that ask to be left out
	SandboxOff                        // never
)

// Options are the settings of a run.
type Options struct {
	KeepGoing        bool
	KeepFailed       bool
	Fallback         bool
	Substitute       bool
	ReadOnly         bool
	MaxJobs          int
	MaxSubst         int
	Cores            int
	Silence          time.Duration // builders that say nothing for so long are killed; 0: never
	Timeout          time.Duration // builders that run for so long are killed; 0: never
	PollInterval     time.Duration
	MaxLogSize       int64 // bytes of output after which a builder is killed; 0: never
	LogLines         int   // lines shown of the log of a failed build
	LogDir           string
	KeepLog          bool
	CompressLog      bool
	CacheFailure     bool // remember builders that fail by themselves, and do not start them again
	RetryFailed      bool // start them again
	BuildTrace       bool // the "@ build-started" lines
	System           string
	Platforms        []string // others that can be built here
	Features         []string
	Mode             SandboxMode
	FsyncOutputs     bool // outputs are on the disk before they are registered
	SyncFirst        bool // likewise everything else
	IgnoredACLs      []string
	Sandbox          *sandbox.Policy
	Users            *sandbox.Users // nil: builders run as the engine's own user
	StrictFixed      bool           // refuse references in fixed outputs
	SecretKeys       []string       // files of keys that sign what is built
	RunDiffHook      bool           // outputs that differ in a check are kept, and shown to the hook
	DiffHook         string         // program; "" is none
	HookEnv          []string       // environment of hooks
	BuildHook        *hook.Program  // asked whether it takes a build; nil: none
	PreBuildHook     string         // may add paths to a sandbox; "" is none
	PostBuildHook    string         // runs when outputs have become valid; "" is none
	PostBuildEnv     []string       // its environment, to which it says what was built
	Sources          []Source       // of substitutes, in order of preference
	Builtins         Builtins
	AlwaysSubstitute bool // also what asks not to be substituted
	Getenv           func(string) string
	Now              func() time.Time
	Interrupted      func() error
}

// An Engine realises store paths. It owns the worker and all goals; the store
// and the sink are the caller's. One run at a time.
type Engine struct {
	store *store.Store
	opt   Options
	sink  activity.Sink
	batch activity.Batcher // the sink, if it is one
	w     *worker.Worker
	asker *asker

	drvs     map[wantedBuild]*Derivation
	substs   map[wantedPath]*Substitution
	firsts   map[storepath.Path]first        // what planning has found out about substitutes
	outputs  map[storepath.Path][]drv.Output // of every derivation loaded in this run
	outlines map[storepath.Path]*drv.Outline // read while planning, for goals to take
	intern   *drv.Intern
	valid    *store.Validity
	closures *store.Closures
	always   []storepath.Path        // in every sandbox, as the settings want it
	held     map[storepath.Path]bool // outputs that goals of this engine have locked

	installing []*installation // trees in their places, to become valid together
	fetches    *store.TempDir  // where substitutes are unpacked; nil before the first
	lastFetch  int
	lacks      map[storepath.Path]storepath.Path // of paths that could not be had: what of their closures is missing

	// Bytes to download and to unpack: what running goals expect, and what was done.
	expectedBytes, doneBytes, toldBytes [2]uint64

	repairs   repairs
	lastID    activity.ID
	lastAside int                            // counts trees renamed aside
	tidied    bool                           // stale build directories have been removed
	swept     map[uint32]bool                // build users that no process of before runs as
	failed    map[storepath.Path]*BuildError // failures that were on record and have been met
	realise   activity.ID
	builds    counter
	copies    counter
	progress  [2]counter // as last reported
	outcome   outcome
	bzip      *bzip2.Writer
	keys      []sign.SecretKey // nil until something is to be built
}

// A wantedPath is what there is one substitution for at a time.
type wantedPath struct {
	path   storepath.Path
	repair bool
}

// New makes an engine on an open store.
func New(s *store.Store, opt Options, sink activity.Sink) (*Engine, error) {
	e := &Engine{
		store: s, opt: opt, sink: sink,
		drvs:     map[wantedBuild]*Derivation{},
		substs:   map[wantedPath]*Substitution{},
		lacks:    map[storepath.Path]storepath.Path{},
		firsts:   map[storepath.Path]first{},
		outputs:  map[storepath.Path][]drv.Output{},
		outlines: map[storepath.Path]*drv.Outline{},
		held:     map[storepath.Path]bool{},
		swept:    map[uint32]bool{},
		intern:   drv.NewIntern(),
		valid:    s.NewValidity(),
		closures: s.NewClosures(),
		lastID:   activity.ID(os.Getpid()) << 32,
	}
	e.asker = newAsker(e)
	e.batch, _ = sink.(activity.Batcher)
	if e.opt.Now == nil {
		e.opt.Now = time.Now
	}
	var err error
	e.w, err = worker.New(worker.Options{
		MaxJobs: opt.MaxJobs, MaxSubstitutions: opt.MaxSubst, PollInterval: opt.PollInterval,
		Now: e.opt.Now, Interrupted: opt.Interrupted,
		Finished: e.finished, Idle: e.idle, Stuck: e.breakCycle,
		Trace: e.tracer(),
	})
	if err != nil {
		return nil, fmt.Errorf("making the event loop: %w", err)
	}
	s.TidyTempDirs()
	for _, src := range opt.Sources {
		src.bind(e)
	}
	if e.always, err = e.sandboxClosure(); err != nil {
		return nil, errors.Join(err, e.w.Close())
	}
	return e, nil
}

// sandboxClosure finds what the store paths among the sandbox paths need. Ones
// that are not valid are the user's own business.
func (e *Engine) sandboxClosure() ([]storepath.Path, error) {
	var all []storepath.Path
	for _, b := range e.opt.Sandbox.Paths {
		p, _, err := e.store.Dir().Split(b.Source)
		if err != nil {
			continue
		}
		closure, err := e.closures.Of(p)
		if err != nil && !errors.Is(err, store.ErrInvalidPath) {
			return nil, fmt.Errorf("while processing 'sandbox-paths': %w", err)
		}
		all = append(all, closure...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Close releases what the engine holds; the store stays open.
func (e *Engine) Close() error { return errors.Join(e.w.Dismiss(), e.w.Close()) }

// A Target is something to realise: a derivation with the outputs wanted of it
// (none named: all), or a path that is not a derivation.
type Target struct {
	Path    storepath.Path
	Outputs []string
	Mode    BuildMode
}

func (t Target) String() string {
	if len(t.Outputs) == 0 {
		return string(t.Path)
	}
	return string(t.Path) + "!" + strings.Join(t.Outputs, ",")
}

// Realise makes the targets valid. Results come in the order of the targets,
// also with an error; a *Failure means that some target could not be realised,
// any other error that the run could not go on.
func (e *Engine) Realise(targets []Target) ([]BuildResult, error) {
	goals := make([]target, len(targets))
	for i, t := range targets {
		goals[i] = e.target(t)
	}
	results, err := e.run(goals)
	for i := range results {
		results[i] = results[i].only(targets[i].Outputs)
	}
	return results, err
}

// Ensure makes paths valid by substitution alone: derivations, too, stand for
// their own files. Results and errors are those of Realise.
func (e *Engine) Ensure(paths []storepath.Path) ([]BuildResult, error) {
	goals := make([]target, len(paths))
	for i, p := range paths {
		s := e.substitution(p, false)
		s.only, goals[i] = true, s
	}
	return e.run(goals)
}

// run works until the goals have ended, and judges how.
func (e *Engine) run(goals []target) ([]BuildResult, error) {
	results, err := e.work(goals, e.opt.KeepGoing)
	if err != nil {
		return results, err
	}
	return results, e.judge(failures(goals))
}

// work works until the goals have ended. An error means that it could not go
// on.
func (e *Engine) work(goals []target, keepGoing bool) ([]BuildResult, error) {
	e.outcome, e.progress = outcome{}, [2]counter{}
	e.builds, e.copies = e.builds.restart(), e.copies.restart()
	e.expectedBytes, e.doneBytes, e.toldBytes = [2]uint64{}, [2]uint64{}, [2]uint64{}
	e.realise = e.start(activity.Error, activity.Realise, "")
	e.builds.id = e.start(activity.Error, activity.Builds, "")
	e.copies.id = e.start(activity.Error, activity.CopyPaths, "")
	req := &worker.Request{KeepGoing: keepGoing}
	for _, g := range goals {
		e.w.Add(req, g)
	}
	if e.batch != nil {
		e.batch.Batch(true)
		defer e.batch.Batch(false)
	}
	err := e.asker.unable(e.w.Run())
	e.endFetches()
	clear(e.firsts) // answers do not keep
	e.report()
	for _, id := range []activity.ID{e.copies.id, e.builds.id, e.realise} {
		e.sink.Stop(id)
	}
	results := make([]BuildResult, len(goals))
	for i, g := range goals {
		results[i] = g.buildResult()
	}
	return results, err
}

// A target is a goal that somebody outside asked for.
type target interface {
	worker.Goal
	buildResult() BuildResult
	failure() *BuildError
}

func (e *Engine) target(t Target) target {
	if t.Mode != Normal {
		e.tidyRepairs()
	}
	if t.Path.IsDerivation() {
		return e.derivation(t.Path, t.Outputs, t.Mode)
	}
	return e.substitution(t.Path, t.Mode == Repair)
}

// failures are the errors of those goals that have failed, each once.
func failures(goals []target) (errs []*BuildError) {
	for _, g := range goals {
		if err := g.failure(); err != nil && !slices.Contains(errs, err) {
			errs = append(errs, err)
		}
	}
	return errs
}

// judge turns the failures of top goals into the run's error.
func (e *Engine) judge(errs []*BuildError) error {
	slices.SortFunc(errs, func(a, b *BuildError) int { return strings.Compare(string(a.Drv), string(b.Drv)) })
	names := make([]string, len(errs))
	for i, err := range errs {
		names[i] = string(err.Drv)
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1 && !errs[0].reported:
		return &Failure{Targets: names, Err: errs[0], ExitCode: e.outcome.exitCode()}
	}
	for _, err := range errs {
		e.reportNow(err)
	}
	return &Failure{Targets: names, ExitCode: e.outcome.exitCode()}
}

// reportNow shows a failure, once.
func (e *Engine) reportNow(err *BuildError) {
	if !err.reported {
		err.reported = true
		e.sink.Failure(err)
	}
}

// derivation returns the goal for a derivation, a new one or the one there is
// with its wanted outputs widened. No names means all outputs.
func (e *Engine) derivation(p storepath.Path, outputs []string, mode BuildMode) *Derivation {
	key := wantedBuild{e.intern.Path(p), mode}
	if d, ok := e.drvs[key]; ok {
		d.want(outputs)
		return d
	}
	d := &Derivation{eng: e, path: key.path, mode: mode, wanted: outputs, state: (*Derivation).start}
	e.drvs[key] = d
	e.builds.outstanding++
	e.w.Adopt(d, worker.BuildSlot)
	return d
}

// substitution returns the goal for a path, the one there is or a new one.
func (e *Engine) substitution(p storepath.Path, repair bool) *Substitution {
	key := wantedPath{e.intern.Path(p), repair}
	if s, ok := e.substs[key]; ok {
		return s
	}
	s := &Substitution{eng: e, path: key.path, repair: repair, state: (*Substitution).start}
	e.substs[key] = s
	e.copies.outstanding++
	e.w.Adopt(s, worker.SubstitutionSlot)
	return s
}

// finished forgets a goal that has ended; a finished goal is never handed out.
func (e *Engine) finished(g worker.Goal) {
	switch g := g.(type) {
	case *Derivation:
		delete(e.drvs, wantedBuild{g.path, g.mode})
		e.builds.outstanding--
		if g.counted {
			e.builds.running--
		}
		if g.activity != 0 {
			e.report()
			e.stop(&g.activity)
		}
		g.drop()
	case *Substitution:
		delete(e.substs, wantedPath{g.path, g.repair})
		e.copies.outstanding--
	}
}

func (e *Engine) idle() error {
	e.asker.pump()
	if len(e.installing) > 0 {
		e.registerNow()
		return nil // those whose paths they are go on first
	}
	e.report()
	if e.batch != nil {
		e.batch.Flush()
	}
	return nil
}

// asBuildError gives any error of a goal a status.
func asBuildError(p storepath.Path, err error) *BuildError {
	var be *BuildError
	if errors.As(err, &be) {
		return be
	}
	return &BuildError{Drv: p, Status: MiscFailure, Err: err}
}
