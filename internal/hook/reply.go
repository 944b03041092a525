package hook

import "strings"

// A Verdict is what a build hook has decided.
type Verdict uint8

// The verdicts.
const (
	Bad      Verdict = iota // none that anybody knows
	Accept                  // the hook builds
	Decline                 // it does not; whoever asks should
	Postpone                // later perhaps
	Never                   // it declines this and all that anybody may ask
)

// A Reply answers a request.
type Reply struct {
	Verdict Verdict
	Machine string // where an accepted build runs; Binary only
	Word    string // what a Bad reply said
}

// Replies reads what a hook says on its standard error: replies and, between
// them, lines for people or, after "@nix ", for their programs.
type Replies struct {
	Protocol Protocol
	// Line gets what is no reply; the text is its to keep.
	Line func(text string)
	// Reply gets the answer to the request that Expect announced.
	Reply func(Reply)

	lines  Lines
	expect expectation
}

type expectation uint8

const (
	nothing expectation = iota
	verdict
	machine // the line after "# accept"
)

// Expect says that a request has been sent.
func (r *Replies) Expect() { r.expect = verdict }

// Feed takes the next bytes.
func (r *Replies) Feed(data []byte) { r.lines.Feed(data, r.line) }

// End takes the end of what the hook says.
func (r *Replies) End() { r.lines.End(r.line) }

func (r *Replies) line(b []byte) {
	text := string(b)
	word, marked := strings.CutPrefix(text, "# ")
	switch {
	case r.expect == machine && !strings.HasPrefix(text, jsonMark):
		r.answer(Reply{Verdict: Accept, Machine: strings.TrimRight(text, "\r")})
	case r.expect == verdict && marked:
		r.judge(strings.TrimRight(word, " \t\r"))
	default:
		r.Line(text)
	}
}

// jsonMark begins lines that are JSON (logging spec, section 2).
const jsonMark = "@nix "

func (r *Replies) judge(word string) {
	today := r.Protocol == Binary
	switch {
	case word == "accept" && today:
		r.expect = machine
	case word == "accept":
		r.answer(Reply{Verdict: Accept})
	case word == "decline":
		r.answer(Reply{Verdict: Decline})
	case word == "decline-permanently" && today:
		r.answer(Reply{Verdict: Never})
	case word == "postpone":
		r.answer(Reply{Verdict: Postpone})
	default:
		r.answer(Reply{Word: word})
	}
}

func (r *Replies) answer(a Reply) {
	r.expect = nothing
	r.Reply(a)
}
