package gc

import (
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A server takes temporary roots from processes that cannot add them to their
// files while a collection runs. A client sends a path and a line feed, and
// may rely on the path once it gets a "1" for it.
//
// Only its own goroutine, run, touches the clients; what it shares with the
// collection is guarded by mu.
type server struct {
	dir      storepath.Dir
	wanted   map[string]bool // hash parts that may be deleted; roots for others need no memory
	listener int
	wake     int // event counter: something changed that clients may wait for
	clients  []*client
	done     chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex
	kept     map[string]int32 // hash part to the process that asked for it
	deleting string           // hash part
	stopping bool
}

// serve starts to listen. Before that, nobody can be told that a path is kept;
// so roots are to be read afterwards.
func serve(s *store.Store, wanted map[string]bool) (*server, error) {
	v := &server{dir: s.Dir(), wanted: wanted, listener: -1, wake: -1, kept: map[string]int32{}, done: make(chan struct{})}
	err := v.listen(s.StateDir() + "/gc-socket")
	if err == nil {
		v.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err != nil {
		v.closeFiles()
		return nil, fmt.Errorf("listening for temporary roots: %w", err)
	}
	go v.run()
	return v, nil
}

// listen puts a socket in dir that is ready when it gets its name.
func (v *server) listen(dir string) error {
	const backlog = 100
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	v.listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	const draft, name = "socket.new", "socket"
	_ = unix.Unlinkat(at, draft, 0) // of a collection that was killed
	// by descriptor: a state directory's name may be longer than a socket's
	if err := unix.Bind(v.listener, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(at) + "/" + draft}); err != nil {
		return err
	}
	if err := unix.Fchmodat(at, draft, 0o666, 0); err != nil {
		return err
	}
	if err := unix.Listen(v.listener, backlog); err != nil {
		return err
	}
	return unix.Renameat(at, draft, at, name)
}

// begin says that a path is about to be deleted, unless somebody asked to keep
// it: then it returns that process. Only one path is deleted at a time.
func (v *server) begin(hashPart string) (pid int32, kept bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if pid, kept = v.kept[hashPart]; !kept {
		v.deleting = hashPart
	}
	return pid, kept
}

// end says that the path is gone, or stays after all, to those who wait to
// make it anew.
func (v *server) end() {
	v.mu.Lock()
	v.deleting = ""
	v.mu.Unlock()
	v.signal()
}

// keep notes a root and tells whether its client must wait.
func (v *server) keep(hashPart string, pid int32) (wait bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wanted[hashPart] {
		v.kept[hashPart] = pid
	}
	return v.deleting == hashPart
}

func (v *server) isDeleting(hashPart string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.deleting == hashPart
}

func (v *server) isStopping() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stopping
}

// stop hangs up on all clients and waits for the goroutine. Clients that have
// no answer ask for the lock again.
func (v *server) stop() {
	v.mu.Lock()
	v.stopping = true
	v.mu.Unlock()
	v.signal()
	<-v.done
	v.closeFiles()
}

func (v *server) signal() {
	one := [8]byte{7: 1} // any number but 0 will do
	_, _ = unix.Write(v.wake, one[:])
}

func (v *server) closeFiles() {
	for _, fd := range []*int{&v.listener, &v.wake} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}
