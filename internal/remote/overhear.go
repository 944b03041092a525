package remote

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// overhearing listens to a program's standard error in a goroutine of its own:
// while the connection is used for other things, output must not pile up.
type overhearing struct {
	pipe *os.File
	done chan struct{} // closed when nothing more will come

	mu   sync.Mutex // guards what follows
	to   io.Writer  // nil: nobody listens yet
	tail []byte     // the end of what was said
}

// tailSize bounds what is kept, in bytes; half of it at least is there.
const tailSize = 8 << 10

func overhear(pipe *os.File) *overhearing {
	o := &overhearing{pipe: pipe, done: make(chan struct{})}
	go o.listen()
	return o
}

func (o *overhearing) listen() {
	defer close(o.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := o.pipe.Read(buf)
		if n > 0 {
			o.take(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (o *overhearing) take(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != nil {
		if _, err := o.to.Write(b); err != nil {
			o.to = nil // whoever wanted it has gone
		}
	}
	if o.tail = append(o.tail, b...); len(o.tail) > tailSize {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-tailSize/2:]...)
	}
}

// forward passes on what comes from now on.
func (o *overhearing) forward(w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to, o.tail = w, o.tail[:0]
}

// lingering is how long output may come after the program has ended. Somebody
// else may hold the pipe open for good, such as a master process of ssh.
const lingering = time.Second

// end waits for the end of what a program says that has ended.
func (o *overhearing) end() {
	if o == nil {
		return
	}
	_ = o.pipe.SetReadDeadline(time.Now().Add(lingering)) // a pipe can do that
	<-o.done
	o.pipe.Close()
}

// shownLines bounds what an error shows of what was said.
const shownLines = 5

// last is the last lines, for an error. While a builder's output was passed
// on, only the very last may be about the connection.
func (o *overhearing) last() string {
	if o == nil {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(string(bytes.TrimSpace(o.tail)), "\n")
	shown := shownLines
	if o.to != nil {
		shown = 1
	}
	lines = lines[max(0, len(lines)-shown):]
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
