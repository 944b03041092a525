package builders

import (
	"context"
	"fmt"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/builtin"
)

// A progress tells the engine how a download goes.
type progress struct {
	build          *build
	id             int
	done, expected int64 // bytes; expected is 0 while unknown
	told           time.Time
}

// between is how often progress is told at most.
const between = 100 * time.Millisecond

// begin tells of a download's start.
func (d *downloader) begin(url string) *progress {
	d.downloads++
	d.tell(map[string]any{"action": "start", "id": d.downloads, "level": activity.Talkative, "type": activity.FileTransfer,
		"text": fmt.Sprintf("downloading '%s'", url), "fields": []any{url}})
	return &progress{build: d.build, id: d.downloads, told: time.Now()}
}

// Write counts bytes that have arrived.
func (p *progress) Write(b []byte) (int, error) {
	p.add(len(b))
	return len(b), nil
}

func (p *progress) add(n int) {
	p.done += int64(n)
	if now := time.Now(); now.Sub(p.told) >= between {
		p.told = now
		p.tell()
	}
}

func (p *progress) tell() {
	p.build.tell(map[string]any{"action": "result", "id": p.id, "type": activity.Progress, "fields": []any{p.done, p.expected, 0, 0}})
}

func (p *progress) end() {
	p.tell()
	p.build.tell(map[string]any{"action": "stop", "id": p.id})
}

// A watch ends a request in which nothing happens.
type watch struct {
	timer *time.Timer
	after time.Duration
}

func newWatch(after time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{after: after}
	if after > 0 {
		w.timer = time.AfterFunc(after, func() { cancel(fmt.Errorf("nothing was received for %v", after)) })
	}
	return w
}

func (w *watch) restart() {
	if w.timer != nil {
		w.timer.Reset(w.after)
	}
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// A pace keeps a download slower than a limit.
type pace struct {
	rate  int64 // bytes per second; 0: none
	start time.Time
}

func newPace(f *builtin.Fetch) *pace { return &pace{f.Speed << 10, time.Now()} }

func (p *pace) wait(got int64) {
	if p.rate > 0 {
		due := time.Duration(float64(got) / float64(p.rate) * float64(time.Second))
		time.Sleep(due - time.Since(p.start))
	}
}
