package logline

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gobuild/internal/activity"
)

const prefix = "@nix "

// An Action says what an event is about.
type Action string

// The actions a builder's line may ask for.
const (
	SetPhase Action = "setPhase" // Text is the phase
	Message  Action = "msg"      // Level and Text
	Start    Action = "start"    // ID, Level, Type, Text and Fields
	Stop     Action = "stop"     // ID
	Result   Action = "result"   // ID, ResultType and Fields
)

// maxFields bounds the fields of an event; none of Nix's has more than four.
const maxFields = 16

// An Event is one line "@nix {…}" of a builder. It comes from an untrusted
// program: IDs are the builder's own, texts may hold any characters.
type Event struct {
	Action     Action
	ID         uint64
	Level      activity.Level // within the known levels
	Type       activity.Type
	ResultType activity.ResultType
	Text       string
	Fields     []any // string or uint64
}

// wire is the union of the objects of the internal-json format.
type wire struct {
	Action string            `json:"action"`
	ID     uint64            `json:"id"`
	Level  int               `json:"level"`
	Type   int               `json:"type"`
	Text   string            `json:"text"`
	Msg    string            `json:"msg"`
	Phase  string            `json:"phase"`
	Fields []json.RawMessage `json:"fields"`
}

// parseEvent reads the object after "@nix ". The action is empty if it is
// none that a builder may use: such lines are dropped.
func parseEvent(text string) (Event, error) {
	var w wire
	if !strings.HasPrefix(strings.TrimLeft(text, " \t"), "{") {
		return Event{}, errors.New("not an object")
	}
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return Event{}, err
	}
	e := Event{ID: w.ID, Level: clamp(w.Level)}
	var err error
	switch Action(w.Action) {
	case SetPhase:
		e.Action, e.Text = SetPhase, w.Phase
	case Message:
		e.Action, e.Text = Message, w.Msg
	case Start:
		e.Action, e.Text, e.Type = Start, w.Text, activity.Type(w.Type)
		e.Fields, err = parseFields(w.Fields)
	case Stop:
		e.Action = Stop
	case Result:
		e.Action, e.ResultType = Result, activity.ResultType(w.Type)
		e.Fields, err = parseFields(w.Fields)
	}
	return e, err
}

func clamp(level int) activity.Level {
	return activity.Level(min(max(level, int(activity.Error)), int(activity.Vomit)))
}

func parseFields(raw []json.RawMessage) ([]any, error) {
	if len(raw) > maxFields {
		return nil, fmt.Errorf("%d fields", len(raw))
	}
	out := make([]any, len(raw))
	for i, r := range raw {
		var n uint64
		var s string
		if json.Unmarshal(r, &n) == nil {
			out[i] = n
		} else if err := json.Unmarshal(r, &s); err == nil {
			out[i] = s
		} else {
			return nil, fmt.Errorf("field %d is neither a string nor a number", i)
		}
	}
	return out, nil
}

// ParseEvent reads a line of any program that may speak in events; is tells
// whether it tries to. The action of an event may be empty: there is nothing to
// do about it.
func ParseEvent(line string) (e Event, is bool, err error) {
	text, is := strings.CutPrefix(line, prefix)
	if is {
		e, err = parseEvent(text)
	}
	return e, is, err
}

// PhaseLine is the line, with its line feed, by which a builder says that a
// phase begins.
func PhaseLine(phase string) []byte {
	object, err := json.Marshal(struct {
		Action Action `json:"action"`
		Phase  string `json:"phase"`
	}{SetPhase, phase})
	if err != nil {
		return nil // a string can always be encoded
	}
	return append(append([]byte(prefix), object...), '\n')
}
