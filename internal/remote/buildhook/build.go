package buildhook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A task is an accepted build.
type task struct {
	drv        storepath.Path
	derivation *drv.Derivation
	inputs     []storepath.Path // all that must be valid there, sorted
	direct     []storepath.Path // of those, what the derivation is said to need
	wanted     []remote.Wanted
	exhausted  bool // it failed because its machine has run out of something
}

// build does an accepted build, on another machine if the first one is lost.
func (h *hook) build(r *request, c *chosen) error {
	t, err := h.prepare(r)
	if err != nil {
		c.release()
		return err
	}
	for {
		tried := h.Now()
		h.Ender.watch(c.conn)
		err := h.attempt(t, c)
		h.Ender.watch(nil)
		var lost *protocol.LostError
		isLost := errors.As(err, &lost)
		if err != nil && (h.Ender.over() || isLost && h.Ender.soonOver()) {
			c.conn.Abort()
			return failed(StatusFailed, "building '%s' on '%s': %w", t.drv, c.seat.URI, errEnded)
		}
		if !isLost {
			return h.finish(t, c, tried, err)
		}
		err = c.conn.Explain(err)
		c.seat.lock.Close()
		if err := h.lose(c.seat, tried, "lost", err); err != nil {
			return err
		}
		next, err := h.another(r)
		if err != nil {
			return err
		}
		if next == nil {
			return failed(StatusRetry, "building '%s' failed because the machine '%s' was lost, and no other is free", t.drv, c.seat.URI)
		}
		h.say(activity.Info, "building '%s' on '%s' instead of '%s'", t.drv, next.seat.URI, c.seat.URI)
		c = next
	}
}

// another reaches another machine for a build whose machine was lost, if it can.
func (h *hook) another(r *request) (*chosen, error) {
	next, f, err := h.connect(r)
	if !h.Wait || next != nil || err != nil || !f.waiting {
		return next, err
	}
	h.say(activity.Info, "waiting for a machine to build '%s'", r.drv)
	for next == nil && err == nil && f.waiting {
		h.Sleep(time.Second)
		h.forgetLost()
		next, f, err = h.connect(r)
	}
	return next, err
}

var errExhausted = errors.New("it has run out of something, such as room on its disk")

// finish leaves a machine that has done what it could. One that has run out of
// room would fail every build faster than others succeed, and so get them all.
func (h *hook) finish(t *task, c *chosen, tried time.Time, result error) error {
	if t.exhausted {
		if err := h.lose(c.seat, tried, "not building any more on", errExhausted); err != nil {
			result = errors.Join(result, err)
		}
	} else {
		h.pool.praise(c.seat.member)
	}
	c.release()
	return result
}

// prepare reads what to build.
func (h *hook) prepare(r *request) (*task, error) {
	j, err := h.asker.job(h.dir)
	if err != nil {
		return nil, err
	}
	d, err := h.store.Derivation(r.drv)
	if err != nil {
		return nil, err
	}
	t := &task{drv: r.drv, derivation: d}
	if h.asker.text() {
		err = h.textInputs(t)
	} else {
		t.inputs = slices.Compact(slices.Sorted(slices.Values(j.inputs)))
	}
	if err != nil {
		return nil, err
	}
	t.direct = t.inputs
	if len(d.InputDrvs) == 0 {
		t.direct = d.InputSrcs
	}
	for _, o := range d.Outputs {
		if o.Path == "" {
			return nil, failed(StatusFailed, "cannot build '%s' elsewhere: the path of its output '%s' is not known beforehand", r.drv, o.ID)
		}
		h.store.HoldLocks(o.Path)
		ca, err := o.ContentAddress()
		if err != nil {
			return nil, fmt.Errorf("derivation '%s': %w", r.drv, err)
		}
		if h.asker.text() || slices.Contains(j.outputs, o.ID) {
			t.wanted = append(t.wanted, remote.Wanted{Path: o.Path, Deriver: r.drv, CA: ca})
		}
	}
	for _, id := range j.outputs {
		if _, ok := d.Output(id); !ok {
			return nil, fmt.Errorf("derivation '%s' has no output '%s'", r.drv, id)
		}
	}
	return t, nil
}

// textInputs finds the inputs of a build of the text protocol, which names
// them together with all derivations that lead to them.
func (h *hook) textInputs(t *task) (err error) {
	roots := slices.Clone(t.derivation.InputSrcs)
	for _, in := range t.derivation.InputDrvs {
		d, err := h.store.Derivation(in.Path)
		if err != nil {
			return err
		}
		for _, id := range in.Outputs {
			if o, ok := d.Output(id); ok && o.Path != "" {
				roots = append(roots, o.Path)
			}
		}
	}
	t.inputs, err = h.store.Closure(roots...)
	return err
}

// attempt does a build on one machine. A *protocol.LostError says that the
// machine is to blame.
func (h *hook) attempt(t *task, c *chosen) error {
	if h.asker.text() {
		host := strings.TrimPrefix(c.seat.URI, "ssh://")
		h.say(activity.Info, "building '%s' on '%s'", t.drv, host)
		if h.Trace {
			h.say(activity.Error, "@ build-remote %s %s", t.drv, host)
		}
	}
	if err := h.upload(t, c); err != nil {
		return err
	}
	c.conn.Forward(h.Log)
	var res protocol.BuildResult
	err := c.conn.Within(h.limit(), func() (err error) {
		res, err = c.conn.BuildDerivation(t.drv, t.derivation, t.direct, &h.Build)
		return err
	})
	if err != nil {
		return err
	}
	if !res.Status.Success() {
		if res.Error == "" {
			res.Error = res.Status.String()
		}
		// of other derivations that is said when the network is to blame
		t.exhausted = res.Status == protocol.TransientFailure && !t.derivation.IsFixed()
		return failed(exitStatus(res.Status), "build of '%s' on '%s' failed: %s", t.drv, c.seat.URI, res.Error)
	}
	return h.download(t, c)
}

// limit is when a machine is taken for lost that should have ended a build
// itself; 0 for never. What it does with outputs takes time too.
func (h *hook) limit() time.Duration {
	if h.Build.Timeout == 0 {
		return 0
	}
	return 2*h.Build.Timeout + h.Overtime
}

// exitStatus is how engines are told of a failed build. What another machine
// or another try may make good is not the derivation's fault.
func exitStatus(s protocol.BuildStatus) int {
	switch s {
	case protocol.TimedOut:
		return StatusTimedOut
	case protocol.PermanentFailure, protocol.OutputRejected, protocol.CachedFailure, protocol.LogLimitExceeded, protocol.NotDeterministic:
		return StatusRejected
	}
	return StatusFailed
}

// upload copies the inputs. Others that copy to the same machine are waited
// for, since they may be copying the same.
func (h *hook) upload(t *task, c *chosen) error {
	uri := c.seat.URI
	stop := h.begin(activity.Talkative, activity.Unknown, fmt.Sprintf("waiting for the upload lock to '%s'", uri))
	lock, err := c.seat.lockUpload(h.Sleep)
	stop()
	switch {
	case errors.Is(err, errStillBusy):
		h.say(activity.Warn, "copying to '%s' while others do: they have not finished for %s", uri, uploadPatience)
	case err != nil:
		return err
	default:
		defer lock.Close()
	}
	stop = h.begin(activity.Talkative, activity.Unknown, fmt.Sprintf("copying dependencies to '%s'", uri))
	defer stop()
	told, end := h.copying("to", "local", uri)
	defer end()
	return c.conn.Upload(h.store, t.inputs, h.UseSubstitutes, told)
}

// download fetches the outputs that are not valid here.
func (h *hook) download(t *task, c *chosen) error {
	var missing []remote.Wanted
	for _, w := range t.wanted {
		if err := h.store.AddTempRoots(w.Path); err != nil {
			return err
		}
		valid, err := h.store.IsValid(w.Path)
		if err != nil {
			return err
		}
		if !valid {
			missing = append(missing, w)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	uri := c.seat.URI
	stop := h.begin(activity.Talkative, activity.Unknown, fmt.Sprintf("copying outputs from '%s'", uri))
	defer stop()
	told, end := h.copying("from", uri, "local")
	defer end()
	return c.conn.Download(h.store, missing, told)
}

// copying makes an activity of each path that is copied, until the next.
func (h *hook) copying(direction, from, to string) (told remote.Transfer, end func()) {
	stop := func() {}
	uri := to
	if direction == "from" {
		uri = from
	}
	told = func(p storepath.Path) {
		stop()
		text := fmt.Sprintf("copying path '%s' %s '%s'", p, direction, uri)
		stop = h.begin(activity.Info, activity.CopyPath, text, string(p), from, to)
	}
	return told, func() { stop() }
}
