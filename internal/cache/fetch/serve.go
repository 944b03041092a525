package fetch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"gobuild/internal/activity"
	"gobuild/internal/cache"
	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/storepath"
)

// Serve reads a wire.Config and requests from in, and answers them on out
// until in ends. What is open then is given up, and incomplete trees are
// removed, before it returns. env looks up variables that name proxies. An
// error means that the other side does not keep to the protocol, or is gone.
func Serve(in io.Reader, out io.Writer, env func(name string) string) error {
	lines := newScanner(in)
	var cfg wire.Config
	if err := readConfig(lines, &cfg); err != nil {
		return err
	}
	box := newOutbox(out)
	s, err := newServer(cfg, box, env)
	if err == nil {
		err = s.run(lines)
		s.set.Close()
	}
	return errors.Join(err, box.close())
}

// newScanner splits in into lines. What comes after the last line end is not
// a line: whoever wrote it was interrupted.
func newScanner(in io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), wire.MaxLine)
	lines.Split(func(data []byte, _ bool) (int, []byte, error) {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return 0, nil, nil
		}
		return end + 1, data[:end], nil
	})
	return lines
}

func readConfig(lines *bufio.Scanner, cfg *wire.Config) error {
	if !lines.Scan() {
		return fmt.Errorf("reading the settings: %w", errors.Join(io.ErrUnexpectedEOF, lines.Err()))
	}
	if err := json.Unmarshal(lines.Bytes(), cfg); err != nil {
		return fmt.Errorf("reading the settings: %w", err)
	}
	if cfg.Version != wire.Version {
		return fmt.Errorf("the settings are in version %d of the protocol, not %d: this program and gobuild were not built together", cfg.Version, wire.Version)
	}
	return nil
}

// A server answers the requests of one engine.
type server struct {
	cfg      wire.Config
	dir      storepath.Dir
	set      *cache.Set
	out      *outbox
	blocks   sync.Pool // of *block
	decoders compress.Decoders
	large    chan struct{} // has room for another long archive

	running sync.WaitGroup
	root    context.Context // of all work
	stop    context.CancelFunc

	mu     sync.Mutex // guards what follows
	open   map[uint64]*job
	asks   pool
	loads  pool
	offers map[offerKey]*offer
}

// Bounds of what is done at once. Looking up costs next to nothing but time;
// loading takes memory, mostly for what decoders remember of long archives.
const (
	maxAsks            = 128
	minLoads, maxLoads = 4, 32
	maxLarge           = 8
)

func newServer(cfg wire.Config, out *outbox, env func(string) string) (*server, error) {
	s := &server{cfg: cfg, out: out, open: map[uint64]*job{}, offers: map[offerKey]*offer{}, large: make(chan struct{}, maxLarge)}
	var err error
	if s.dir, err = storepath.ParseDir(cfg.StoreDir); err != nil {
		return nil, err
	}
	s.blocks.New = func() any { return new(block) }
	s.asks = pool{most: maxAsks, do: s.ask}
	s.loads = pool{most: maxLoads, do: s.load}
	if cfg.Connections > 0 { // else there is no limit on them
		s.loads.most = min(max(cfg.Connections, minLoads), maxLoads)
	}
	s.root, s.stop = context.WithCancel(context.Background())
	s.set, err = cache.NewSet(s.root, cfg.Substituters, cache.Options{Config: cfg, Env: env, Message: s.say})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// say tells people something.
func (s *server) say(level activity.Level, text string) {
	s.out.send(&wire.Reply{Kind: wire.Message, Level: level, Text: text})
}

func (s *server) warn(text string) { s.say(activity.Warn, text) }

// run takes requests until there are no more, and then waits for the work to
// have come to its end.
func (s *server) run(lines *bufio.Scanner) error {
	defer s.running.Wait()
	defer s.giveUp()
	for lines.Scan() && !s.out.broken() {
		var r wire.Request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		if err := s.take(r); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading a request: %w", err)
	}
	return nil
}

func (s *server) take(r wire.Request) error {
	if r.After < 0 || r.Source < 0 {
		return fmt.Errorf("request %d is about a cache before the first one", r.ID)
	}
	switch r.Op {
	case wire.Info:
		return s.add(&s.asks, &job{Request: r})
	case wire.Fetch, wire.Log:
		return s.add(&s.loads, &job{Request: r})
	case wire.Cancel:
		s.cancel(r.ID)
		return nil
	}
	return fmt.Errorf("request %d is for an unknown operation '%s'", r.ID, r.Op)
}
