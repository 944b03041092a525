package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// A measurement is what one run of a program cost.
type measurement struct {
	Seconds float64
	CPU     float64 // seconds of user and system time, children included
	RSS     int64   // peak resident set in KiB of the largest process
	Exit    int
}

// measureArg is the first argument by which this program runs another and reports on it. The kernel counts the memory of
// the process that starts a program as the program's own: so a small process has to do it.
const measureArg = "-measure"

// measureMain runs the program named by the arguments and writes the measurement to descriptor 3.
func measureMain(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	begin := time.Now()
	err := cmd.Run()
	m := measurement{Seconds: time.Since(begin).Seconds()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	m.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	m.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	m.Exit = cmd.ProcessState.ExitCode()
	return json.NewEncoder(os.NewFile(3, "report")).Encode(m)
}

// run measures a program; wantExit -1 accepts every exit status.
func (b *bench) run(env, argv []string, wantExit int) (measurement, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return measurement{}, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{measureArg}, argv...)...)
	cmd.Env = env
	cmd.ExtraFiles = []*os.File{w}
	log, err := os.Create(b.path("last-output"))
	if err != nil {
		return measurement{}, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	w.Close()
	if err != nil {
		return measurement{}, err
	}
	var m measurement
	decodeErr := json.NewDecoder(r).Decode(&m)
	if err := errors.Join(cmd.Wait(), decodeErr); err != nil {
		return m, fmt.Errorf("running %q: %w\n%s", argv, err, b.lastOutput())
	}
	if wantExit >= 0 && m.Exit != wantExit {
		return m, fmt.Errorf("running %q: exit status %d, want %d\n%s", argv, m.Exit, wantExit, b.lastOutput())
	}
	return m, nil
}

// lastOutput is the end of what the last program said.
func (b *bench) lastOutput() string {
	text, _ := os.ReadFile(b.path("last-output"))
	return string(text[max(0, len(text)-2000):])
}

// median of each number on its own.
func median(all []measurement) measurement {
	pick := func(f func(measurement) float64) float64 {
		var v []float64
		for _, m := range all {
			v = append(v, f(m))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return measurement{
		Seconds: pick(func(m measurement) float64 { return m.Seconds }),
		CPU:     pick(func(m measurement) float64 { return m.CPU }),
		RSS:     int64(pick(func(m measurement) float64 { return float64(m.RSS) })),
		Exit:    all[0].Exit,
	}
}
