package buildhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/remote"
)

// A BackOff says how long machines are left alone that failed. The zero value
// gives the defaults.
type BackOff struct {
	First    time.Duration // after the first failure; it doubles with each
	Most     time.Duration
	Patience int // failures after which builds no longer wait for the machine
}

func (b BackOff) orDefault() BackOff {
	if b.First == 0 {
		b.First = 4 * time.Second
	}
	if b.Most == 0 {
		b.Most = 10 * time.Minute
	}
	if b.Patience == 0 {
		b.Patience = 5 // a minute and two seconds
	}
	return b
}

// pause is how long a machine is left alone after that many failures.
func (b BackOff) pause(failures int) time.Duration {
	d := b.First
	for ; failures > 1 && d < b.Most; failures-- {
		d *= 2
	}
	return min(d, b.Most)
}

// A down is what is known of a machine that failed, in a file of its own.
type down struct {
	Failures int       // one after the other
	At       time.Time // of the last
	Until    time.Time
	Reason   string
	Unusable bool `json:",omitempty"` // it will not come back by itself
}

const downSuffix = ".down"

// maxDown bounds what is read of such a file, in bytes; maxReason what is
// written.
const (
	maxDown   = 64 << 10
	maxReason = 1 << 10
)

// down reads what is known. A file that makes no sense is as good as none: it
// is a hint, and another failure makes it anew.
func (p *pool) down(m *member) down {
	fd, err := unix.Open(m.file+downSuffix, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return down{}
	}
	f := os.NewFile(uintptr(fd), m.file+downSuffix)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDown))
	var d down
	if err != nil || json.Unmarshal(text, &d) != nil || d.Failures < 0 || d.Until.Sub(p.now()) > p.backOff.Most {
		return down{}
	}
	return d
}

// lose notes that a machine failed that was tried at a time, and returns how
// long it is left alone now. When others failed at the same time, that counts
// as one failure.
func (p *pool) lose(m *member, tried time.Time, reason error) (time.Duration, error) {
	m.lost = true
	var left time.Duration
	err := p.locked(func() error {
		d := p.down(m)
		if d.Failures == 0 || d.At.Before(tried) {
			d.Failures++
			d.At = p.now()
			d.Until = d.At.Add(p.backOff.pause(d.Failures))
			var unusable *remote.UnusableError
			if d.Unusable = errors.As(reason, &unusable); d.Unusable {
				d.Until = d.At.Add(p.backOff.First) // it may be put right at any time
			}
			d.Reason = reason.Error()
			d.Reason = d.Reason[:min(len(d.Reason), maxReason)]
		}
		left = d.Until.Sub(p.now())
		return writeDown(m.file+downSuffix, &d)
	})
	return left, err
}

// writeDown is called while no other hook looks at the file. It makes no other
// file, which would stay when the hook is killed.
func writeDown(name string, d *down) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_ = os.Remove(name)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // others may write to the directory
	if err == nil {
		_, err = f.Write(append(text, '\n'))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("noting that a machine is down: %w", err)
	}
	return nil
}

// praise forgets the failures of a machine that has done its work, whatever
// the result. What cannot be forgotten is forgiven after a time anyway.
func (p *pool) praise(m *member) { _ = os.Remove(m.file + downSuffix) }
