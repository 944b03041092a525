// Package activity names what an engine reports while it works: messages,
// activities that start and stop, and results on them. The numbers and fields
// are those of the wire protocol and of the internal-json log (spec
// logging.md sections 1, 3 and 4).
package activity

// Level says how much a reader wants to know: a message is shown when its
// level is at most the chosen verbosity.
type Level int

// The levels, quietest first.
const (
	Error Level = iota
	Warn
	Notice
	Info
	Talkative
	Chatty
	Debug
	Vomit
)

// Type is the kind of an activity.
type Type int

// The kinds of activities.
const (
	Unknown       Type = 0
	CopyPath      Type = 100
	FileTransfer  Type = 101
	Realise       Type = 102
	CopyPaths     Type = 103
	Builds        Type = 104
	Build         Type = 105
	OptimiseStore Type = 106
	VerifyPaths   Type = 107
	Substitute    Type = 108
	QueryPathInfo Type = 109
	PostBuildHook Type = 110
	BuildWaiting  Type = 111
)

// ResultType is the kind of a result.
type ResultType int

// The kinds of results.
const (
	FileLinked       ResultType = 100
	BuildLogLine     ResultType = 101
	UntrustedPath    ResultType = 102
	CorruptedPath    ResultType = 103
	SetPhase         ResultType = 104
	Progress         ResultType = 105
	SetExpected      ResultType = 106
	PostBuildLogLine ResultType = 107
	FetchStatus      ResultType = 108
)

// ID identifies an activity within one stream; 0 means "no activity".
type ID uint64

// A Sink takes what the engine reports. Fields are string, int or uint64.
// Implementations need not be safe for concurrent use: the engine has one
// thread of control.
type Sink interface {
	// Message carries one text, without a line feed at its end.
	Message(level Level, text string)
	// Failure reports an error that ended part of the work. A Report in its
	// chain says more than its text.
	Failure(err error)
	Start(id ID, level Level, t Type, text string, parent ID, fields ...any)
	Stop(id ID)
	Result(id ID, t ResultType, fields ...any)
}

// A Batcher is a Sink that can collect what it writes. The engine's loop calls
// Flush whenever it is about to sleep.
type Batcher interface {
	Batch(on bool)
	Flush()
}

// A Report is an error about a builder that has its last output to show.
type Report interface {
	error
	// LogTail is the last lines of output, oldest first, and what to give to
	// the command that shows the whole log; "" when no log was kept.
	LogTail() (lines []string, logOf string)
}
