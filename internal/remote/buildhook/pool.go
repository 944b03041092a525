package buildhook

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gobuild/internal/remote"
	"gobuild/internal/store/pathlock"
)

// A pool is the machines with what hooks know of them together.
type pool struct {
	dir      string // of the files in which they agree
	machines []*member
	now      func() time.Time
	backOff  BackOff
}

// A member is a machine of the pool.
type member struct {
	remote.Machine
	slots string // what the names of its slots' locks begin with
	file  string // what the names of its other files begin with
	lost  bool   // it has been tried for the request at hand
}

// newPool makes a pool whose slots have the names that engines of the time
// give them.
func newPool(o *Options, text bool) *pool {
	p := &pool{dir: o.LoadDir, now: o.Now, backOff: o.BackOff.orDefault()}
	for _, m := range o.Machines {
		name := fileName(m.URI)
		slots := name
		if text {
			host := strings.TrimPrefix(m.URI, "ssh://")
			slots = fileName(strings.Join(m.Systems, "+") + "-" + host)
			name = fileName(host)
		}
		p.machines = append(p.machines, &member{Machine: m, slots: p.dir + "/" + slots, file: p.dir + "/" + name})
	}
	return p
}

// maxFileName leaves room for a slot's number and such.
const maxFileName = 200

func fileName(text string) string {
	text = strings.ReplaceAll(text, "/", "_")
	if len(text) > maxFileName {
		sum := md5.Sum([]byte(text))
		text = strings.ReplaceAll(base64.StdEncoding.EncodeToString(sum[:]), "/", "_")
	}
	return text
}

// locked runs f while no other hook chooses.
func (p *pool) locked(f func() error) error {
	lock, _, err := pathlock.LockFile(p.dir+"/main-lock", pathlock.Exclusive, pathlock.Block)
	if err != nil {
		return err
	}
	defer lock.Close()
	return f()
}

// A seat is a locked slot of a machine.
type seat struct {
	*member
	lock *pathlock.File
	load int // other slots that are taken
}

// A finding is what choosing has found.
type finding struct {
	seat    *seat // nil for none
	waiting bool  // a machine fits that will be free, or may come back
	reasons []string
	down    []string // the reasons of machines that fit but are left alone
}

// choose locks a slot of the machine that is best for the request, if one is
// free. With the reasons it says of every machine why it was not it.
func (p *pool) choose(r *request) (f finding, err error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return f, fmt.Errorf("making the directory for locks of machines: %w", err)
	}
	err = p.locked(func() error {
		f, err = p.look(r)
		return err
	})
	return f, err
}

func (p *pool) look(r *request) (f finding, err error) {
	for _, m := range p.machines {
		s, why, err := p.consider(m, r, &f)
		if err != nil {
			if f.seat != nil {
				f.seat.lock.Close()
			}
			return finding{}, err
		}
		if s != nil && f.seat != nil {
			worse := s
			if better(s, f.seat) {
				worse, f.seat = f.seat, s
			}
			why = fmt.Sprintf("another is better: %d of %d slots are taken, and its speed is %g", worse.load, worse.MaxJobs, worse.Speed)
			m = worse.member
			worse.lock.Close()
		} else if s != nil {
			f.seat = s
		}
		if why != "" {
			f.reasons = append(f.reasons, fmt.Sprintf("not on '%s': %s", m.URI, why))
		}
	}
	return f, nil
}

// consider locks a slot of a machine, or says why not.
func (p *pool) consider(m *member, r *request, f *finding) (*seat, string, error) {
	switch {
	case m.MaxJobs == 0:
		return nil, "it takes no jobs", nil
	case !m.Runs(r.platform):
		return nil, fmt.Sprintf("it builds for %s, not for '%s'", strings.Join(m.Systems, ", "), r.platform), nil
	case !m.Supports(r.features):
		return nil, fmt.Sprintf("it has the features [%s], not all of [%s]", strings.Join(slices.Concat(m.Features, m.Mandatory), ", "),
			strings.Join(r.features, ", ")), nil
	case !m.Admits(r.features):
		return nil, fmt.Sprintf("it takes only what requires [%s]", strings.Join(m.Mandatory, ", ")), nil
	}
	d := p.down(m)
	if d.Until.After(p.now()) {
		if d.Failures < p.backOff.Patience && !d.Unusable {
			f.waiting = true
		}
		why := fmt.Sprintf("it is left alone until %s after %d failures: %s", d.Until.Format(time.TimeOnly), d.Failures, d.Reason)
		f.down = append(f.down, fmt.Sprintf("not on '%s': %s", m.URI, why))
		return nil, why, nil
	}
	if m.lost {
		return nil, "it failed just now", nil
	}
	f.waiting = true
	s, err := seatAt(m)
	if err != nil {
		return nil, "", err
	}
	if s.lock == nil {
		return nil, fmt.Sprintf("all %d slots are taken", m.MaxJobs), nil
	}
	return s, "", nil
}

// seatAt counts the slots that are taken and locks the first free one.
func seatAt(m *member) (*seat, error) {
	s := &seat{member: m}
	for slot := range m.MaxJobs {
		lock, ok, err := pathlock.LockFile(fmt.Sprintf("%s-%d", m.slots, slot), pathlock.Exclusive, pathlock.Try)
		switch {
		case err != nil:
			if s.lock != nil {
				s.lock.Close()
			}
			return nil, err
		case !ok:
			s.load++
		case s.lock == nil:
			s.lock = lock
		default:
			lock.Close()
		}
	}
	return s, nil
}

// better tells which of two machines with a free slot gets the build: the one
// with the lower load for its speed, then the faster one, then the one with
// the lower load.
func better(a, b *seat) bool {
	return cmp.Or(
		cmp.Compare(float64(a.load)/a.Speed, float64(b.load)/b.Speed),
		cmp.Compare(b.Speed, a.Speed),
		cmp.Compare(a.load, b.load),
	) < 0
}

// uploadPatience is how long a hook waits for others that copy to the same
// machine, before it copies at the same time.
const uploadPatience = 15 * time.Minute

var errStillBusy = errors.New("others have been copying for too long")

// lockUpload waits until no other hook copies to the machine. After
// errStillBusy nothing is locked.
func (m *member) lockUpload(sleep func(time.Duration)) (*pathlock.File, error) {
	pause := 10 * time.Millisecond
	for waited := time.Duration(0); waited < uploadPatience; waited += pause {
		lock, ok, err := pathlock.LockFile(m.file+".upload-lock", pathlock.Exclusive, pathlock.Try)
		if ok || err != nil {
			return lock, err
		}
		sleep(pause)
		pause = min(2*pause, time.Second)
	}
	return nil, errStillBusy
}
