package goal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// A Derivation is the goal of making the wanted outputs of one derivation
// valid.
type Derivation struct {
	worker.Node
	eng    *Engine
	path   storepath.Path
	mode   BuildMode
	waited bool     // in a repair: for somebody else's work on the outputs, which may have been this
	wanted []string // nil: all
	all    bool     // all outputs matter, whatever was wanted: there must be a build

	tried  []storepath.Path // outputs for which substitutes were looked for
	lacked int              // those of them that are known to have none, so that there was no goal
	retry  retrying         // substitution, when the inputs are there

	state    step
	outline  *drv.Outline // nil before haveDerivation and after the end
	inputs   []storepath.Path
	attempt  *attempt    // not nil while locks or more are held
	queued   *class      // while waiting for a turn to ask the build hook
	turn     *turn       // not nil while asking it
	lost     int         // builds that got lost elsewhere
	activity activity.ID // waiting for a lock or a user, between polls, or building
	counted  bool        // among the builds that run, from the builder's start to the goal's end

	status  Status
	err     *BuildError
	outs    map[string]storepath.Path
	started time.Time
	stopped time.Time
}

// A step is a state: it acts and says what comes next, after which wait.
type step func(*Derivation) (step, worker.Wait, error)

// Name is for traces and time-out messages.
func (d *Derivation) Name() string {
	outputs := "*"
	if len(d.wanted) > 0 {
		outputs = strings.Join(d.wanted, ",")
	}
	return fmt.Sprintf("building of '%s^%s' from .drv file", d.path, outputs)
}

// Key puts builds behind substitutions, by name.
func (d *Derivation) Key() worker.Key {
	return worker.Key{Class: 'b' + byte(d.mode), Name: d.path.Name(), Path: string(d.path)}
}

// Step runs the current state. An error of a state is this goal's failure;
// other goals go on.
func (d *Derivation) Step() (worker.Wait, error) {
	next, wait, err := d.state(d)
	if err != nil {
		return d.fail(err), nil
	}
	if next != nil {
		d.state = next
	}
	return wait, nil
}

// succeed ends the goal with valid outputs.
func (d *Derivation) succeed(s Status) (step, worker.Wait, error) {
	d.status = s
	if s == Built {
		d.eng.builds.done++
	}
	for _, o := range d.outline.Outputs {
		if d.wants(o.ID) {
			d.eng.valid.Set(o.Path, true)
		}
	}
	return nil, d.End(worker.Success), nil
}

// fail ends the goal with an error. It is reported at once when another goal
// waits for this one, and by the run's end otherwise.
func (d *Derivation) fail(err error) worker.Wait {
	d.release()
	d.err = asBuildError(d.path, err)
	d.status = d.err.Status
	d.eng.outcome.add(d.err)
	if d.status != DependencyFailed {
		d.eng.builds.bad++
	}
	if d.Waited() {
		d.eng.reportNow(d.err)
	}
	return d.End(worker.Failed)
}

// failWith is fail with a status.
func (d *Derivation) failWith(s Status, err error) (step, worker.Wait, error) {
	return nil, worker.Done, &BuildError{Drv: d.path, Status: s, Err: err}
}

// Abandon gives back what the goal holds when nobody wants it any more.
func (d *Derivation) Abandon() { d.release() }

// waitFor shows what the goal waits for, once for all polls.
func (d *Derivation) waitFor(text string) {
	if d.activity == 0 {
		d.activity = d.eng.start(activity.Warn, activity.BuildWaiting, text)
	}
}

// drop forgets what only a living goal needs.
func (d *Derivation) drop() {
	if d.outline != nil {
		d.outs = make(map[string]storepath.Path, len(d.outline.Outputs))
		for _, o := range d.outline.Outputs {
			if d.wants(o.ID) {
				d.outs[o.ID] = o.Path
			}
		}
	}
	d.outline, d.inputs, d.state, d.tried = nil, nil, nil, nil
}

func (d *Derivation) failure() *BuildError { return d.err }

func (d *Derivation) buildResult() BuildResult {
	r := BuildResult{Path: d.path, Status: d.status, Err: errOrNil(d.err), Outputs: d.outs, Started: d.started, Stopped: d.stopped}
	if d.Result() == worker.Abandoned || d.Result() == worker.Busy {
		r.Status, r.Err = MiscFailure, fmt.Errorf("building of '%s' was not finished", d.path)
	}
	return r
}

// want widens the wanted outputs; none named means all.
func (d *Derivation) want(outputs []string) {
	if len(d.wanted) == 0 {
		return
	}
	if len(outputs) == 0 {
		d.wanted = nil
		return
	}
	all := slices.Clone(d.wanted)
	for _, o := range outputs {
		if !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	slices.Sort(all)
	d.wanted = all
}

func (d *Derivation) wants(id string) bool {
	return d.all || len(d.wanted) == 0 || slices.Contains(d.wanted, id)
}

// start makes sure that the derivation itself is there.
func (d *Derivation) start() (step, worker.Wait, error) {
	if d.eng.opt.ReadOnly {
		return d.failWith(MiscFailure, fmt.Errorf("cannot build derivation '%s' - no write access to the Nix store", d.path))
	}
	if err := d.eng.store.AddTempRoots(d.path); err != nil {
		return nil, worker.Done, err
	}
	valid, err := d.eng.valid.IsValid(d.path)
	if err != nil {
		return nil, worker.Done, err
	}
	if !valid {
		d.eng.w.Await(d, d.eng.substitution(d.path, false))
		return (*Derivation).haveDerivation, worker.Goals, nil
	}
	return d.haveDerivation()
}

// haveDerivation runs when the derivation is valid, or cannot be made so.
func (d *Derivation) haveDerivation() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("cannot build missing derivation '%s'", d.path))
	}
	if d.outline == nil {
		if err := d.load(); err != nil {
			return nil, worker.Done, err
		}
	}
	if d.mode == Repair {
		return d.examineOutputs()
	}
	return d.outputsKnown()
}

// outputsKnown runs when it is known what there is of the outputs.
func (d *Derivation) outputsKnown() (step, worker.Wait, error) {
	invalid, err := d.invalidOutputs()
	if err != nil {
		return nil, worker.Done, err
	}
	if len(invalid) == 0 {
		return d.outputsThere(AlreadyValid)
	}
	if err := d.failedBefore(invalid); err != nil {
		return nil, worker.Done, err
	}
	if !d.eng.maySubstitute(d.outline) {
		return d.needInputs()
	}
	return d.trySubstitutes(invalid)
}

// load reads the derivation and makes its outputs temporary roots.
func (d *Derivation) load() error {
	o, err := d.eng.takeOutline(d.path)
	if err != nil {
		return err
	}
	if err := refuseKind(d.path, o.Kind()); err != nil {
		return err
	}
	if err := checkWanted(d.path, o, d.wanted); err != nil {
		return err
	}
	roots := make([]storepath.Path, len(o.Outputs))
	for i, out := range o.Outputs {
		roots[i] = out.Path
	}
	if err := d.eng.store.AddTempRoots(roots...); err != nil {
		return err
	}
	d.outline = o
	d.eng.outputs[d.path] = o.Outputs
	return nil
}

// refuseKind says which experimental feature a derivation would need.
func refuseKind(p storepath.Path, k drv.Kind) error {
	var feature string
	switch k {
	case drv.Floating, drv.Deferred:
		feature = "ca-derivations"
	case drv.Impure:
		feature = "impure-derivations"
	default:
		return nil
	}
	return fmt.Errorf("derivation '%s' has %s outputs, which need the experimental feature '%s' that this program does not have", p, k, feature)
}

func checkWanted(p storepath.Path, o *drv.Outline, wanted []string) error {
	var missing []string
	for _, id := range wanted {
		if _, ok := o.Output(id); !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("derivation '%s' does not have wanted outputs %s", p, quoteAll(missing))
}

// invalidOutputs are the wanted outputs that are not valid, or in a repair have
// lost their contents.
func (d *Derivation) invalidOutputs() ([]storepath.Path, error) {
	var invalid []storepath.Path
	for _, o := range d.outline.Outputs {
		if !d.wants(o.ID) {
			continue
		}
		valid, err := d.eng.valid.IsValid(o.Path)
		if err != nil {
			return nil, err
		}
		if !valid || d.mode == Repair && !d.eng.contentsGood(o.Path) {
			invalid = append(invalid, o.Path)
		}
	}
	return invalid, nil
}
