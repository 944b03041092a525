package finalise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// A reply is what the child says on descriptor 4.
type reply struct {
	Result *Result `json:",omitempty"`
	Error  string  `json:",omitempty"`
	Output string  `json:",omitempty"` // whose fault it is
}

// Main is the child's entry: a JSON Request on descriptor 3, the answer for
// ReadReply on descriptor 4. It returns the exit code: 0 if the outputs are
// fine, 1 otherwise.
func Main() int {
	return serve(os.NewFile(3, "request"), os.NewFile(4, "reply"))
}

func serve(in io.Reader, out io.Writer) int {
	var answer reply
	code := 0
	result, err := runEncoded(in)
	if err == nil {
		answer.Result = &result
	} else {
		code = 1
		answer.Error = err.Error()
		var fault *OutputError
		if errors.As(err, &fault) {
			answer.Output = fault.Output
		}
	}
	if json.NewEncoder(out).Encode(answer) != nil {
		return 1
	}
	return code
}

func runEncoded(in io.Reader) (Result, error) {
	var req Request
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return Result{}, fmt.Errorf("reading the request of the finaliser: %w", err)
	}
	return Run(req)
}

// ReadReply takes apart what the child has written. The errors are those of
// Run, as far as an *OutputError tells them apart.
func ReadReply(data []byte) (Result, error) {
	var answer reply
	if err := json.Unmarshal(data, &answer); err != nil {
		return Result{}, fmt.Errorf("reading the reply of the finaliser: %w", err)
	}
	switch {
	case answer.Output != "":
		return Result{}, &OutputError{Output: answer.Output, Err: errors.New(answer.Error)}
	case answer.Error != "":
		return Result{}, errors.New(answer.Error)
	case answer.Result == nil:
		return Result{}, errors.New("the finaliser gave no result")
	}
	return *answer.Result, nil
}
