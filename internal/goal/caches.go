package goal

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// maxDeaths is how often the network program may end by itself before it is
// not started any more.
const maxDeaths = 3

// Caches is the Source of everything in binary caches: the network program,
// which is started with the first question and asked many things at once.
type Caches struct {
	config  wire.Config
	program func() (string, error)
	env     []string
	links   string // where equal files meet; "": they do not

	eng     *Engine
	handle  *worker.Handle // nil when it does not run
	replies wire.Splitter
	lastID  uint64
	open    map[uint64]*question
	deaths  int
	broken  error // why it is not started again
}

// A question is a request that has not been answered for good.
type question struct {
	path   storepath.Path
	answer func(answer) // of a query
	events fetchEvents  // of a fetch
}

// NewCaches makes a Source of the caches that config names. program tells what
// to execute; env is the program's environment. links is the directory in which
// equal files of the store meet, or "".
func NewCaches(config wire.Config, program func() (string, error), env []string, links string) *Caches {
	config.Version = wire.Version
	return &Caches{config: config, program: program, env: env, links: links, open: map[uint64]*question{}}
}

func (c *Caches) bind(e *Engine) { c.eng = e }

func (c *Caches) query(p storepath.Path, after int, reply func(answer)) {
	if _, err := c.send(wire.Request{Op: wire.Info, Path: string(p), After: after}, &question{path: p, answer: reply}); err != nil {
		reply(answer{err: err})
	}
}

func (c *Caches) fetch(o *offer, dest string, events fetchEvents) transfer {
	req := wire.Request{Op: wire.Fetch, Path: string(o.info.Path), Source: o.index, Dest: dest, Links: c.links}
	if o.repair {
		req.Links = "" // whose entries may be the damaged files
	}
	id, err := c.send(req, &question{path: o.info.Path, events: events})
	if err != nil {
		events.ended(err)
	}
	return &download{c, id}
}

// A download is a fetch by the network program.
type download struct {
	from *Caches
	id   uint64
}

func (d *download) cancel() {
	if d.from.open[d.id] == nil {
		return
	}
	delete(d.from.open, d.id)
	d.from.tell(wire.Request{ID: d.id, Op: wire.Cancel})
}

// send asks something, and starts the program if it does not run.
func (c *Caches) send(r wire.Request, q *question) (uint64, error) {
	if c.handle == nil {
		if err := c.start(); err != nil {
			return 0, err
		}
	}
	c.lastID++
	r.ID = c.lastID
	c.open[r.ID] = q
	c.tell(r)
	return r.ID, nil
}

// tell writes one message. What cannot be encoded does not exist.
func (c *Caches) tell(message any) {
	if c.handle == nil {
		return
	}
	if line, err := wire.Encode(message); err == nil {
		c.eng.w.Send(c.handle, line)
	}
}

// start starts the program and tells it its settings.
func (c *Caches) start() error {
	if c.broken != nil {
		return c.broken
	}
	h, err := c.launch()
	if err != nil {
		c.broken = fmt.Errorf("looking for substitutes: %w", err)
		return c.broken
	}
	c.handle, c.replies = h, wire.Splitter{}
	c.tell(c.config)
	return nil
}

func (c *Caches) launch() (*worker.Handle, error) {
	program, err := c.program()
	if err != nil {
		return nil, err
	}
	in, err := proc.NewPipe()
	if err != nil {
		return nil, err
	}
	out, err := proc.NewPipe()
	if err != nil {
		proc.Close(in.R, in.W)
		return nil, err
	}
	_, _ = unix.FcntlInt(uintptr(out.R), unix.F_SETPIPE_SZ, logPipeSize)
	err = errors.Join(unix.SetNonblock(in.R, false), unix.SetNonblock(in.W, true))
	var p *proc.Process
	if err == nil {
		p, err = proc.Start(proc.Command{
			Path: program, Argv: []string{"gobuild-net", "substitute"}, Env: c.env, Files: []int{in.R, out.W, 2},
			Attr: syscall.SysProcAttr{Setpgid: true}, // interrupts are for us to hear, and to act on
		})
	}
	proc.Close(in.R, out.W)
	if err != nil {
		proc.Close(in.W, out.R)
		return nil, fmt.Errorf("starting the network program: %w", err)
	}
	return c.eng.w.WatchFor(c, worker.Child{Proc: p, FDs: []int{out.R}, Input: in.W, Service: true})
}

// Output hears the program's replies.
func (c *Caches) Output(h *worker.Handle, _ int, data []byte) {
	if err := c.replies.Feed(data, c.handleReply); err != nil && h == c.handle {
		c.fail(err)
		c.eng.w.Kill(h)
	}
}

// TimedOut is never called: the program looks after its own time limits.
func (c *Caches) TimedOut(*worker.Handle, worker.Limit) {}

// Ended answers what the program has not answered.
func (c *Caches) Ended(h *worker.Handle) {
	c.handle = nil
	if h.Status().OK() && len(c.open) == 0 {
		return
	}
	c.deaths++
	err := fmt.Errorf("the network program %s", h.Status())
	if c.deaths >= maxDeaths {
		c.broken = err
	}
	c.fail(err)
}

// fail gives all open questions the same answer, in the order in which they
// were asked.
func (c *Caches) fail(err error) {
	open := c.open
	c.open = map[uint64]*question{}
	ids := make([]uint64, 0, len(open))
	for id := range open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if q := open[id]; q.answer != nil {
			q.answer(answer{err: fmt.Errorf("looking for a substitute of '%s': %w", q.path, err)})
		} else {
			q.events.ended(fmt.Errorf("fetching '%s': %w", q.path, err))
		}
	}
}

func (c *Caches) handleReply(r *wire.Reply) {
	if r.Kind == wire.Message {
		c.eng.sink.Message(r.Level, r.Text)
		return
	}
	q := c.open[r.ID]
	if q == nil {
		return // cancelled
	}
	if r.Kind == wire.Progress {
		q.events.progress(r.Downloaded, r.Unpacked)
		return
	}
	delete(c.open, r.ID)
	switch r.Kind {
	case wire.Found:
		q.answer(c.offered(q.path, r))
	case wire.Absent:
		q.answer(absent(r))
	case wire.Fetched:
		q.events.progress(r.Downloaded, r.Unpacked)
		q.events.ended(nil)
	case wire.Failed:
		q.events.ended(failure(r))
	}
}

func absent(r *wire.Reply) answer {
	if r.Error == "" {
		return answer{}
	}
	return answer{err: errors.New(r.Error)}
}

func failure(r *wire.Reply) error {
	if r.Gone {
		return &goneError{errors.New(r.Error), r.Down}
	}
	return errors.New(r.Error)
}

// offered turns the news of a substitute into an offer.
func (c *Caches) offered(p storepath.Path, r *wire.Reply) answer {
	info, err := c.info(p, r.Info)
	if err != nil {
		return answer{err: fmt.Errorf("looking for a substitute of '%s' in '%s': %w", p, r.URI, err)}
	}
	return answer{offer: &offer{
		source: c, uri: r.URI, next: r.Source + 1, index: r.Source, info: info, download: r.Info.DownloadSize, url: r.URL,
	}}
}

func (c *Caches) info(p storepath.Path, s *wire.Substitute) (info store.Info, err error) {
	if s == nil {
		return info, errors.New("the network program gave no details")
	}
	info = store.Info{Path: p, NarSize: s.NarSize, Sigs: s.Sigs}
	if info.NarHash, err = digest.Parse(s.NarHash, digest.SHA256); err != nil {
		return info, err
	}
	dir := c.eng.store.Dir()
	for _, text := range s.References {
		ref, err := dir.ParseExact(text)
		if err != nil {
			return info, err
		}
		info.References = append(info.References, c.eng.intern.Path(ref))
	}
	if s.Deriver != "" {
		if info.Deriver, err = dir.ParseExact(s.Deriver); err != nil {
			return info, err
		}
	}
	if s.CA != "" {
		info.CA, err = storepath.ParseContentAddress(s.CA)
	}
	return info, err
}
