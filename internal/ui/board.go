package ui

import (
	"time"

	"gobuild/internal/activity"
)

// A task is an activity that has started and not stopped.
type task struct {
	typ      activity.Type
	parent   activity.ID
	label    string // in the status line; "" is not shown
	name     string // before its log lines
	phase    string
	lastLine string
	started  time.Time
	moved    uint64 // when it last did something, in events
	progress counts
	expected map[activity.Type]uint64 // announced for other activities
}

// counts are numbers of builds or paths, or bytes.
type counts struct{ done, expected, running, failed uint64 }

// A board keeps what is known of all activities.
type board struct {
	now    func() time.Time
	c      palette
	lines  bool // the status line shows builders' last lines
	tasks  map[activity.ID]*task
	past   map[activity.Type]counts // of tasks that stopped: done and failed
	events uint64
}

func newBoard(now func() time.Time, c palette) *board {
	return &board{now: now, c: c, tasks: map[activity.ID]*task{}, past: map[activity.Type]counts{}}
}

func (b *board) start(id activity.ID, t activity.Type, text string, parent activity.ID, fields []any) {
	b.events++
	k := &task{typ: t, parent: parent, started: b.now(), moved: b.events}
	k.label, k.name = b.label(t, text, fields)
	if b.inside(k) {
		k.label = ""
	}
	b.tasks[id] = k
}

// inside tells whether the task is a detail of one that is shown already.
func (b *board) inside(k *task) bool {
	switch k.typ {
	case activity.FileTransfer:
		return b.has(k.parent, activity.CopyPath) || b.has(k.parent, activity.QueryPathInfo)
	case activity.CopyPath:
		return b.has(k.parent, activity.Substitute)
	}
	return false
}

// maxDepth bounds the walk to ancestors; a daemon could send a circle.
const maxDepth = 16

func (b *board) has(id activity.ID, t activity.Type) bool {
	for range maxDepth {
		k := b.tasks[id]
		if k == nil {
			return false
		}
		if k.typ == t {
			return true
		}
		id = k.parent
	}
	return false
}

func (b *board) stop(id activity.ID) {
	k := b.tasks[id]
	if k == nil {
		return
	}
	delete(b.tasks, id)
	if k.progress != (counts{}) {
		sum := b.past[k.typ]
		sum.done += k.progress.done
		sum.failed += k.progress.failed
		b.past[k.typ] = sum
	}
}

func (b *board) result(id activity.ID, t activity.ResultType, fields []any) {
	k := b.tasks[id]
	if k == nil {
		return
	}
	b.events++
	switch t {
	case activity.BuildLogLine, activity.PostBuildLogLine, activity.FetchStatus:
		k.lastLine, k.moved = text(fields, 0), b.events
	case activity.SetPhase:
		k.phase, k.moved = text(fields, 0), b.events
	case activity.Progress:
		k.progress = counts{number(fields, 0), number(fields, 1), number(fields, 2), number(fields, 3)}
	case activity.SetExpected:
		if k.expected == nil {
			k.expected = map[activity.Type]uint64{}
		}
		k.expected[activity.Type(number(fields, 0))] = number(fields, 1)
	}
}

// sum adds up the tasks of one type, past and present.
func (b *board) sum(t activity.Type) counts {
	total := b.past[t]
	total.expected = total.done
	var announced uint64
	for _, k := range b.tasks {
		announced += k.expected[t]
		if k.typ == t {
			total.done += k.progress.done
			total.expected += k.progress.expected
			total.running += k.progress.running
			total.failed += k.progress.failed
		}
	}
	total.expected = max(total.expected, announced)
	return total
}

// current is the task that did something last, among those that are shown.
func (b *board) current() *task {
	var best *task
	for _, k := range b.tasks {
		if k.label != "" && (best == nil || k.moved > best.moved) {
			best = k
		}
	}
	return best
}

func (b *board) name(id activity.ID) string {
	if k := b.tasks[id]; k != nil && k.name != "" {
		return k.name
	}
	return "build"
}

func text(fields []any, i int) string {
	if i < len(fields) {
		s, _ := fields[i].(string)
		return s
	}
	return ""
}

func number(fields []any, i int) uint64 {
	if i >= len(fields) {
		return 0
	}
	switch n := fields[i].(type) {
	case int:
		return uint64(max(n, 0))
	case uint64:
		return n
	}
	return 0
}
