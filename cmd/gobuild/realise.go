package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gobuild/internal/activity"
	"gobuild/internal/goal"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/ui"
)

type realiseOptions struct {
	dryRun  bool
	addRoot string
	json    bool
	repair  bool
	check   bool
}

// mode is what is to be done about outputs that are there.
func (o realiseOptions) mode() goal.BuildMode {
	switch {
	case o.repair:
		return goal.Repair
	case o.check:
		return goal.Check
	}
	return goal.Normal
}

func (a *app) realiseCommand() *cobra.Command {
	var o realiseOptions
	c := &cobra.Command{
		Use:     "realise DRV[!OUTPUT,...]...",
		Aliases: []string{"realize", "build"},
		Short:   "Build derivations and print the paths of their outputs",
		Long: `Realise makes the outputs of derivations valid: it builds what is missing, and
everything that this needs, and prints the paths of the outputs.

DRV!out,dev and DRV^out,dev stand for two of the outputs, DRV and DRV^* for all.

Exit status: 0 all is valid; 100 a build failed; 101 a build timed out; 102 a
fixed output had another hash; 104 a check found a difference (failures of
several kinds combine); 1 anything else.`,
		Example: "  gobuild realise /nix/store/...-hello-2.12.drv\n  gobuild realise --root ~/chroot -j4 -k /nix/store/...-a.drv /nix/store/...-b.drv^dev",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.realise(o, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be built")
	f.StringVar(&o.addRoot, "add-root", "", "make `LINK` point to the result and keep that from the garbage collector")
	f.BoolVar(&o.repair, "repair", false, "replace outputs, and what they refer to, whose files are not what was registered")
	f.BoolVar(&o.check, "check", false, "build outputs that are there again, and compare")
	c.MarkFlagsMutuallyExclusive("repair", "check")
	f.BoolVar(&o.json, "json", false, "print a JSON array with one object for each argument")
	a.addBuildFlags(c)
	a.addSubstituteFlags(c)
	return c
}

// addBuildFlags adds the settings that have flags of their own.
func (a *app) addBuildFlags(c *cobra.Command) {
	f := c.Flags()
	for _, s := range []struct{ name, short, setting, help string }{
		{"max-jobs", "j", "max-jobs", "run up to `N` builds at once, or auto for one a processor"},
		{"cores", "", "cores", "tell each build to use `N` processors; 0 is all"},
		{"max-silent-time", "", "max-silent-time", "kill builders that are silent for `SECONDS`"},
		{"timeout", "", "timeout", "kill builders that take longer than `SECONDS`"},
		{"log-lines", "", "log-lines", "show the last `N` lines of the log of a failed build"},
		{"system", "", "system", "build for `PLATFORM`, such as x86_64-linux"},
		{"builders", "", "builders", "build on these `MACHINES` too, or those of @FILE"},
	} {
		f.VarP(&optionFlag{a: a, setting: s.setting}, s.name, s.short, s.help)
	}
	for _, s := range []struct {
		name, short, setting, help string
		negated                    bool
	}{
		{"keep-going", "k", "keep-going", "go on with other builds after a failure", false},
		{"keep-failed", "K", "keep-failed", "keep the build directories of failed builds", false},
		{"fallback", "", "fallback", "build what could not be fetched", false},
		{"sandbox", "", "sandbox", "run builders in a sandbox (the default)", false},
		{"no-sandbox", "", "sandbox", "run builders without a sandbox", true},
		{"print-build-trace", "", "print-build-trace", "print lines for programs when builds start and end", false},
	} {
		f.VarPF(&optionFlag{a: a, setting: s.setting, isBool: true, negated: s.negated}, s.name, s.short, s.help).NoOptDefVal = "true"
	}
	f.BoolVar(&a.flags.noBuildHook, "no-build-hook", false, "ask no other program or machine whether it builds")
	f.BoolVar(&a.flags.retryFailed, "retry-failed", false, "build again what the setting cache-failure remembers to fail")
	f.BoolVarP(&a.flags.noBuildOutput, "no-build-output", "Q", false, "do not show the output of builders")
}

func (a *app) realise(o realiseOptions, args []string) error {
	s, refused, err := a.openForBuild(o, args)
	if err != nil {
		return err
	}
	defer s.close()
	specs, err := s.specs(args)
	if err != nil {
		return err
	}
	engine, err := s.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	targets := make([]goal.Target, len(specs))
	for i, spec := range specs {
		targets[i] = goal.Target{Path: spec.Path, Outputs: spec.Outputs, Mode: o.mode()}
	}
	mode := planMode(o)
	if refused != nil {
		mode = goal.JustLook
	}
	plan, err := engine.Plan(targets, mode)
	if err != nil {
		return err
	}
	if o.dryRun {
		return s.printPlan(o, plan)
	}
	if !plan.Empty() && s.settings.PrintMissing {
		a.logger().Message(activity.Info, missing(plan).String())
	}
	if plan.Empty() && o.mode() == goal.Normal {
		return s.printRealised(o, specs, nil, engine.Outputs)
	}
	if refused != nil {
		return refused
	}
	begin := time.Now()
	results, err := engine.Realise(targets)
	a.logger().Summary(time.Since(begin))
	if err != nil {
		return errors.Join(err, s.printFailed(o, results))
	}
	return s.printRealised(o, specs, results, engine.Outputs)
}

// openForBuild opens the store for writing. Where only that is refused it is
// opened for reading: there may be nothing to build.
func (a *app) openForBuild(o realiseOptions, args []string) (s *session, refused, err error) {
	if o.dryRun {
		s, err = a.open(reading, args...)
		return s, nil, err
	}
	s, refused = a.open(writing, args...)
	if errors.Is(refused, store.ErrReadOnly) && o.addRoot == "" {
		s, err = a.open(reading, args...)
		return s, refused, err
	}
	return s, nil, refused
}

// printPlan is the answer to a dry run: for people on standard error, as they
// see it before a real one.
func (s *session) printPlan(o realiseOptions, plan *goal.Plan) error {
	if o.json {
		return s.printJSON(map[string]any{
			"build": append([]storepath.Path{}, plan.Build...), "fetch": append([]storepath.Path{}, plan.Fetch...),
			"unknown": append([]storepath.Path{}, plan.Unknown...), "downloadSize": plan.Download, "narSize": plan.Unpacked,
		})
	}
	if !plan.Empty() {
		s.logger().Message(activity.Error, missing(plan).String())
	}
	return nil
}

// missing is a plan for people.
func missing(p *goal.Plan) ui.Missing {
	return ui.Missing{Build: p.Build, Fetch: p.Fetch, Unknown: p.Unknown, Download: p.Download, Unpacked: p.Unpacked}
}

func planMode(o realiseOptions) goal.PlanMode {
	if o.dryRun {
		return goal.JustLook
	}
	return goal.ToFollow
}

// printRealised prints the outputs that were asked for, and makes roots.
func (s *session) printRealised(o realiseOptions, specs []drv.Spec, results []goal.BuildResult, read readOutputs) error {
	var lines []string
	var objects []realised
	for i, spec := range specs {
		outputs, err := outputsOf(spec, read)
		if err != nil {
			return err
		}
		object := realised{Path: spec.Path, Status: goal.AlreadyValid.String(), Outputs: map[string]storepath.Path{}}
		if results != nil {
			object.set(results[i])
		}
		slices.SortFunc(outputs, func(a, b drv.Output) int { return strings.Compare(string(a.Path), string(b.Path)) })
		for _, out := range outputs {
			lines = append(lines, string(out.Path))
			object.Outputs[out.ID] = out.Path
			if err := s.root(o, out.Path, len(lines)); err != nil {
				return err
			}
		}
		objects = append(objects, object)
	}
	if o.json {
		return s.printJSON(objects)
	}
	for _, l := range lines {
		if err := s.print(l); err != nil {
			return err
		}
	}
	return nil
}

// printFailed tells programs about every target; people have been told.
func (s *session) printFailed(o realiseOptions, results []goal.BuildResult) error {
	if !o.json {
		return nil
	}
	objects := make([]realised, len(results))
	for i, r := range results {
		objects[i] = realised{Path: r.Path, Outputs: r.Outputs}
		objects[i].set(r)
	}
	return s.printJSON(objects)
}

// A realised is what --json says of a target.
type realised struct {
	Path    storepath.Path            `json:"path"`
	Status  string                    `json:"status"`
	Error   string                    `json:"error,omitempty"`
	Outputs map[string]storepath.Path `json:"outputs,omitempty"`
	Start   int64                     `json:"startTime,omitempty"`
	Stop    int64                     `json:"stopTime,omitempty"`
}

func (r *realised) set(from goal.BuildResult) {
	r.Status = from.Status.String()
	if from.Err != nil {
		r.Error = from.Err.Error()
	}
	if !from.Started.IsZero() {
		r.Start, r.Stop = from.Started.Unix(), from.Stopped.Unix()
	}
}

// A readOutputs finds all outputs of a derivation.
type readOutputs func(storepath.Path) ([]drv.Output, error)

// outputsOf are the outputs that a spec asks for; a path that is no derivation
// is its own output.
func outputsOf(spec drv.Spec, read readOutputs) ([]drv.Output, error) {
	if !spec.Path.IsDerivation() {
		return []drv.Output{{ID: "out", Path: spec.Path}}, nil
	}
	all, err := read(spec.Path)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(out drv.Output) bool { return !spec.Wants(out.ID) }), nil
}

// outputsOf reads the outputs that a spec asks for.
func (s *session) outputsOf(spec drv.Spec) ([]drv.Output, error) {
	return outputsOf(spec, func(p storepath.Path) ([]drv.Output, error) {
		o, err := s.store.Outline(p, nil)
		if err != nil {
			return nil, err
		}
		return o.Outputs, nil
	})
}

// root makes the n-th result a root, under the name given or that with "-n".
func (s *session) root(o realiseOptions, p storepath.Path, n int) error {
	if o.addRoot == "" {
		return nil
	}
	link := o.addRoot
	if err := absolute(&link); err != nil {
		return err
	}
	if n > 1 {
		link = fmt.Sprintf("%s-%d", link, n)
	}
	return s.store.AddRoot(link, p, store.Indirect)
}
