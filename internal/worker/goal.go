package worker

import (
	"cmp"
	"strings"
)

// A Goal is something to achieve by steps. Implementations embed Node.
type Goal interface {
	Listener
	// Name says what is being done, for traces and time-out messages.
	Name() string
	// Key gives goals a stable order.
	Key() Key
	// Step runs the current state and says what to wait for before the next.
	// An error means that no goal can go on (the store is lost): it ends Run.
	Step() (Wait, error)
	// Abandon is called when nobody waits for the goal any more. The goal
	// gives back what it holds; children that still run it hands to Bury.
	Abandon()
	node() *Node
}

// A Listener hears from the children that it watches.
type Listener interface {
	// Output delivers bytes read from one of the child's descriptors; data is
	// valid during the call only.
	Output(h *Handle, fd int, data []byte)
	// TimedOut says that the child has broken a time limit. The listener is
	// expected to kill it.
	TimedOut(h *Handle, limit Limit)
}

// A Key orders goals: by class, then by name, then by path.
type Key struct {
	Class byte
	Name  string
	Path  string
}

// Compare gives the order of two keys as cmp.Compare does.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Class, o.Class); c != 0 {
		return c
	}
	if c := strings.Compare(k.Name, o.Name); c != 0 {
		return c
	}
	return strings.Compare(k.Path, o.Path)
}

// A Wait is what a goal needs before its next step.
type Wait uint8

// The things to wait for.
const (
	Now     Wait = iota // nothing: step again at once
	Yield               // let the others who are awake go first
	Goals               // the awaited goals, or the first failure without keep-going
	Exit                // the watched child: its end and the end of its output
	Signal              // a call of Wake
	Slot                // a free job slot of the goal's kind
	AnyGoal             // the end of any other goal
	AWhile              // the poll interval
	Done                // nothing ever: the goal has ended with the result given to End
)

var waitNames = [...]string{"now", "yield", "goals", "exit", "signal", "slot", "any goal", "a while", "done"}

func (w Wait) String() string { return waitNames[w] }

// A Result is how a goal ended.
type Result uint8

// The results. Only Failed makes a waiting goal give up early.
const (
	Busy Result = iota
	Success
	Failed
	NoSubstituters
	IncompleteClosure
	Abandoned
)

var resultNames = [...]string{"busy", "success", "failed", "no substituters", "incomplete closure", "abandoned"}

func (r Result) String() string { return resultNames[r] }

// A SlotKind says which pool of job slots a goal or child uses.
type SlotKind uint8

// The pools.
const (
	NoSlot SlotKind = iota
	BuildSlot
	SubstitutionSlot
	slotKinds
)

// Node is the worker's part of a goal. Embed it and give it to Adopt.
type Node struct {
	self Goal
	kind SlotKind

	result  Result
	parked  Wait
	awake   bool
	keep    bool // keep going after a failure: some request that wants this says so
	tops    []*Request
	live    int // goals that wait for this one
	epoch   uint32
	waiters []edge
	awaits  []*Node
	left    int // awaited goals still busy

	failed, noSubstituters, incomplete int
}

// An edge points to a waiting goal; it is void once the goal's epoch has moved
// on, which is how a goal lets go of all that it awaits in one step.
type edge struct {
	to    *Node
	epoch uint32
}

func (n *Node) node() *Node { return n }

// End notes the goal's result; a Step returns what End returns.
func (n *Node) End(r Result) Wait {
	n.result = r
	return Done
}

// Result is Busy until the goal has ended.
func (n *Node) Result() Result { return n.result }

// Failed counts the awaited goals that did not succeed.
func (n *Node) Failed() int { return n.failed }

// WithoutSubstituters counts those of them that nobody could substitute.
func (n *Node) WithoutSubstituters() int { return n.noSubstituters }

// Incomplete counts those of them whose substitute lacked a reference.
func (n *Node) Incomplete() int { return n.incomplete }

// ResetCounts starts the three counters anew, between two phases of a goal.
func (n *Node) ResetCounts() { n.failed, n.noSubstituters, n.incomplete = 0, 0, 0 }

// Waited tells whether another goal waits for this one, so that a failure is
// somebody else's reason too.
func (n *Node) Waited() bool { return n.live > 0 }

// KeepGoing tells whether some request that wants this goal goes on after a
// failure.
func (n *Node) KeepGoing() bool { return n.keep }
