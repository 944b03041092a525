package goal

import (
	"fmt"
	"strings"

	"gobuild/internal/hook"
	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// A SubstituterProgram is a Source of what a program of the user's can fetch
// (binary-cache spec, section 9). The program runs for as long as there are
// questions, and once more for each path that it fetches.
type SubstituterProgram struct {
	program hook.Substituter
	eng     *Engine

	handle *worker.Handle // of the one that is asked; nil when it does not run
	stdout int
	asked  []*programQuery // in the question that is open
	next   []*programQuery // for the next one
	reader *hook.Answers
	said   []byte // the end of what it printed on standard error
	deaths int
	broken error // why it is not started again
}

// A programQuery is a path that somebody asks about.
type programQuery struct {
	path   storepath.Path
	offer  *offer
	answer func(answer)
}

// maxAsked is how many paths are in one question.
const maxAsked = 1000

// NewSubstituterProgram makes a Source of a program.
func NewSubstituterProgram(program hook.Substituter) *SubstituterProgram {
	return &SubstituterProgram{program: program}
}

func (s *SubstituterProgram) bind(e *Engine) { s.eng = e }

// query puts the path into the next question, with all others that come up
// until this one has been answered.
func (s *SubstituterProgram) query(p storepath.Path, after int, reply func(answer)) {
	if after > 0 {
		reply(answer{})
		return
	}
	s.next = append(s.next, &programQuery{path: p, answer: reply})
	s.ask()
}

// ask sends the next question unless one is open.
func (s *SubstituterProgram) ask() {
	if len(s.asked) > 0 || len(s.next) == 0 {
		return
	}
	if err := s.start(); err != nil {
		s.fail(err)
		return
	}
	n := min(len(s.next), maxAsked)
	s.asked, s.next = s.next[:n:n], s.next[n:]
	paths := make([]storepath.Path, n)
	for i, q := range s.asked {
		paths[i] = q.path
	}
	s.reader = hook.ReadInfo(s.eng.store.Dir(), paths)
	s.eng.w.Send(s.handle, hook.AppendInfo(nil, paths))
}

// start starts the program if it does not run.
func (s *SubstituterProgram) start() error {
	if s.handle != nil || s.broken != nil {
		return s.broken
	}
	p, input, stdout, stderr, err := s.program.StartQuery()
	if err == nil {
		s.stdout, s.said = stdout, nil
		s.handle, err = s.eng.w.WatchFor(s, worker.Child{Proc: p, FDs: []int{stdout, stderr}, Input: input, Service: true})
	}
	s.broken = err
	return err
}

// Output hears answers and, for the case that it dies, what it complains about.
func (s *SubstituterProgram) Output(h *worker.Handle, fd int, data []byte) {
	if h != s.handle {
		return
	}
	if fd != s.stdout {
		const enough = 4 << 10
		s.said = append(s.said, data...)
		s.said = s.said[max(len(s.said)-enough, 0):]
		return
	}
	if s.reader == nil {
		s.giveUp(fmt.Errorf("substituter '%s' talks without having been asked", s.program.Path))
		return
	}
	done, err := s.reader.Feed(data, s.offered)
	if err != nil {
		s.giveUp(fmt.Errorf("substituter '%s': %w", s.program.Path, err))
	} else if done {
		s.answered()
	}
}

// giveUp ends a program that does not keep to the protocol.
func (s *SubstituterProgram) giveUp(err error) {
	s.broken = err
	s.eng.w.Kill(s.handle)
	s.fail(err)
}

// offered takes what the program knows of a path.
func (s *SubstituterProgram) offered(o hook.Offer) {
	for _, q := range s.asked {
		if q.path != o.Path {
			continue
		}
		q.offer = &offer{
			source: s, uri: s.program.Path, next: 1, download: o.Download,
			info: store.Info{Path: q.path, NarSize: o.NarSize, Deriver: o.Deriver},
		}
		for _, ref := range o.References {
			q.offer.info.References = append(q.offer.info.References, s.eng.intern.Path(ref))
		}
	}
}

// answered tells all who asked, and asks for those who came since.
func (s *SubstituterProgram) answered() {
	asked := s.asked
	s.asked, s.reader, s.deaths = nil, nil, 0
	for _, q := range asked {
		q.answer(answer{offer: q.offer})
	}
	s.ask()
}

// fail gives all who ask the same answer.
func (s *SubstituterProgram) fail(err error) {
	asked := append(s.asked, s.next...)
	s.asked, s.next, s.reader = nil, nil, nil
	for _, q := range asked {
		q.answer(answer{err: fmt.Errorf("looking for a substitute of '%s': %w", q.path, err)})
	}
}

// TimedOut is never called: questions have no time limits.
func (s *SubstituterProgram) TimedOut(*worker.Handle, worker.Limit) {}

// Ended answers what the program has not answered.
func (s *SubstituterProgram) Ended(h *worker.Handle) {
	if h != s.handle {
		return
	}
	s.handle = nil
	if len(s.asked) == 0 {
		return
	}
	why := strings.TrimRight(string(s.said), "\n")
	if why == "" {
		why = h.Status().String()
	}
	err := fmt.Errorf("substituter '%s' failed: %s", s.program.Path, why)
	if s.deaths++; s.deaths >= maxDeaths {
		s.broken = err
	}
	s.fail(err)
}

// fetch starts the program once more.
func (s *SubstituterProgram) fetch(o *offer, dest string, events fetchEvents) transfer {
	f := &programFetch{from: s, offer: o, dest: dest, events: events}
	if err := f.start(); err != nil {
		events.ended(err)
	}
	return f
}
