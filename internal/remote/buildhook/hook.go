package buildhook

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// Options are what a hook needs to know.
type Options struct {
	Machines []remote.Machine
	LoadDir  string // of the files by which hooks agree
	Dialing  remote.Dialing

	// What the engine's own machine builds.
	MaxJobs   int // 0: nothing
	Platforms []string
	Features  []string

	// Build has the limits for builds there.
	Build          protocol.BuildOptions
	UseSubstitutes bool // machines may fetch inputs from their caches
	Trace          bool // print lines for programs that follow builds by text
	// Wait is for engines that do not ask again after StatusRetry: a build whose
	// machine was lost waits here until another is free.
	Wait bool

	// Open opens the store that outputs are for, once there is a machine. The
	// paths of the outputs are locked by the engine.
	Open func() (*store.Store, error)
	// Reply gets the replies. Messages go where they go: in the text protocol
	// they must have no lines beginning with "# ".
	Reply io.Writer
	// Log gets what builders say; it is written to by another goroutine.
	Log  io.Writer
	Sink activity.Sink
	// FirstID is the number before the first activity's.
	FirstID activity.ID

	// Ender, if there is one, can end a build that is being done.
	Ender *Ender

	// Overtime is added to twice the time limit of a build, after which a
	// machine that has not answered is taken for lost; 0 for a minute.
	Overtime time.Duration

	BackOff BackOff
	Now     func() time.Time    // nil: the clock
	Sleep   func(time.Duration) // nil: really
}

type hook struct {
	*Options
	asker Asker
	dir   storepath.Dir
	pool  *pool
	store *store.Store // nil until there is a machine
	id    activity.ID

	explained string // what was said last of machines that were not chosen
}

// Run answers an engine until it has no more requests or a build is done. What
// goes wrong with that build is a *Failure.
func Run(asker Asker, o *Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = time.Sleep
	}
	if o.Overtime == 0 {
		o.Overtime = time.Minute
	}
	if o.Ender == nil {
		o.Ender = &Ender{}
	}
	h := &hook{Options: o, asker: asker, dir: o.Dialing.Dir, pool: newPool(o, asker.text()), id: o.FirstID}
	defer func() {
		if h.store != nil {
			h.store.Close()
		}
	}()
	if len(o.Machines) == 0 {
		h.say(activity.Talkative, "there are no machines to build on")
		return h.never()
	}
	for {
		r, more, err := asker.next(h.dir)
		if err != nil || !more {
			return err
		}
		c, err := h.find(&r)
		if errors.Is(err, errEnded) {
			return err
		}
		if err != nil {
			h.Sink.Failure(err)
			return h.never()
		}
		if c == nil {
			continue
		}
		if err := h.reply(asker.accept(c.seat.URI)); err != nil {
			c.conn.Abort()
			return err
		}
		return h.build(&r, c)
	}
}

// never tells the engine that it need not ask again. The text protocol has no
// word for that.
func (h *hook) never() error {
	if !h.asker.text() {
		return h.reply("# decline-permanently\n")
	}
	for {
		if _, more, err := h.asker.next(h.dir); err != nil || !more {
			return err
		}
		if err := h.reply("# decline\n"); err != nil {
			return err
		}
	}
}

func (h *hook) reply(text string) error {
	if _, err := io.WriteString(h.Reply, text); err != nil {
		return fmt.Errorf("answering the engine: %w", err)
	}
	return nil
}

// say shows a message. What machines say may be in it, which must not pass for
// a reply.
func (h *hook) say(level activity.Level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if h.asker.text() {
		text = strings.ReplaceAll(text, "\n", "\n  ")
	}
	h.Sink.Message(level, text)
}

// A chosen machine is connected, and one of its slots is taken.
type chosen struct {
	seat *seat
	conn *remote.Conn
}

func (c *chosen) release() {
	c.conn.Close()
	c.seat.lock.Close()
}

// find chooses and reaches a machine for a request, or answers it.
func (h *hook) find(r *request) (*chosen, error) {
	h.forgetLost()
	c, f, err := h.connect(r)
	if err != nil || c != nil {
		return c, err
	}
	local := h.buildsHere(r)
	if f.waiting && !local {
		return nil, h.reply("# postpone\n")
	}
	level := activity.Warn
	if local {
		level = activity.Chatty
	}
	h.say(level, "%s", h.noMachine(r, f.down))
	return nil, h.reply("# decline\n")
}

// forgetLost has machines considered again that could not be reached.
func (h *hook) forgetLost() {
	for _, m := range h.pool.machines {
		m.lost = false
	}
}

// connect reaches the best machine that can be reached; with none it says what
// choosing has found at last.
func (h *hook) connect(r *request) (*chosen, finding, error) {
	for {
		f, err := h.pool.choose(r)
		if err != nil {
			return nil, f, err
		}
		h.explain(r, f.reasons)
		if f.seat == nil {
			return nil, f, nil
		}
		c, err := h.reach(f.seat)
		if err != nil || c != nil {
			return c, f, err
		}
	}
}

// explain says why machines were not chosen, if that is news: an engine asks
// about the same derivation again and again until a machine is free.
func (h *hook) explain(r *request, reasons []string) {
	if text := strings.Join(append(reasons, string(r.drv)), "\n"); text != h.explained {
		h.explained = text
		for _, why := range reasons {
			h.say(activity.Talkative, "'%s' %s", r.drv, why)
		}
	}
}

// reach connects to a machine, or notes that it is down.
func (h *hook) reach(s *seat) (*chosen, error) {
	if h.store == nil {
		st, err := h.Open()
		if err != nil {
			s.lock.Close()
			return nil, err
		}
		h.store = st
	}
	tried := h.Now()
	stop := h.begin(activity.Talkative, activity.Unknown, fmt.Sprintf("connecting to '%s'", s.URI))
	conn, err := remote.Dial(&s.Machine, &h.Dialing)
	stop()
	if err == nil && !conn.BuildsDerivations() {
		conn.Close()
		err = &remote.UnusableError{Err: protocol.ErrTooOld}
	}
	if err == nil {
		return &chosen{s, conn}, nil
	}
	s.lock.Close()
	if h.Ender.soonOver() {
		return nil, failed(StatusFailed, "connecting to '%s': %w", s.URI, errEnded)
	}
	return nil, h.lose(s, tried, "cannot build on", err)
}

// lose notes that a machine is down, and says so.
func (h *hook) lose(s *seat, tried time.Time, what string, err error) error {
	left, noteErr := h.pool.lose(s.member, tried, err)
	if noteErr != nil {
		return errors.Join(err, noteErr)
	}
	h.say(activity.Warn, "%s '%s': %s; leaving it alone for %s", what, s.URI, err, left.Round(time.Second))
	return nil
}

// buildsHere tells whether the engine can do without us.
func (h *hook) buildsHere(r *request) bool {
	if !r.willing || h.MaxJobs == 0 || !slices.Contains(h.Platforms, r.platform) {
		return false
	}
	if h.asker.text() {
		return true // engines of that time asked of machines what they did not ask of themselves
	}
	for _, f := range r.features {
		if !slices.Contains(h.Features, f) {
			return false
		}
	}
	return true
}

// noMachine is the message that engines' users know, with what each machine
// can do and why some are left alone.
func (h *hook) noMachine(r *request, down []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Failed to find a machine for remote build!\nderivation: %s\nrequired (system, features): (%s, [%s])\n%d available machines:\n"+
		"(systems, maxjobs, supportedFeatures, mandatoryFeatures)", r.drv.Base(), r.platform, strings.Join(r.features, ", "), len(h.pool.machines))
	for _, m := range h.pool.machines {
		fmt.Fprintf(&b, "\n([%s], %d, [%s], [%s])", strings.Join(m.Systems, ", "), m.MaxJobs, strings.Join(m.Features, ", "),
			strings.Join(m.Mandatory, ", "))
	}
	for _, why := range down {
		b.WriteString("\n" + why)
	}
	return b.String()
}

// begin starts an activity. What it returns stops it.
func (h *hook) begin(level activity.Level, t activity.Type, text string, fields ...any) (stop func()) {
	h.id++
	id := h.id
	h.Sink.Start(id, level, t, text, 0, fields...)
	return func() { h.Sink.Stop(id) }
}
