package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// mode tells type and permissions as the database spec, section 1, lists them.
func mode(t *testing.T, path string) string {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	return st.Mode().String()
}

func TestLayout(t *testing.T) {
	cfg := testConfig(t)
	cfg.ReservedSpace = 100_000
	defer unix.Umask(unix.Umask(0o022))
	s := openStore(t, cfg)
	if err := s.AddTempRoots(fakePath(s.dir, 1, "x")); err != nil {
		t.Fatal(err)
	}
	state := cfg.StateDir
	for path, want := range map[string]string{
		string(cfg.Dir):                               "drwxr-xr-x",
		string(cfg.Dir) + "/.links":                   "drwxr-xr-x",
		state + "/db":                                 "drwxr-xr-x",
		state + "/db/db.sqlite":                       "-rw-r--r--",
		state + "/db/schema":                          "-rw-r--r--",
		state + "/db/big-lock":                        "-rw-------",
		state + "/db/reserved":                        "-rw-------",
		state + "/gc.lock":                            "-rw-------",
		state + "/gcroots/auto":                       "drwxr-xr-x",
		state + "/gcroots/per-user":                   "drwxr-xr-x",
		state + "/gcroots/profiles":                   "Lrwxrwxrwx",
		state + "/profiles/per-user":                  "drwxr-xr-x",
		state + "/db/gobuild.sqlite":                  "lstat " + state + "/db/gobuild.sqlite: no such file or directory",
		fmt.Sprint(state, "/temproots/", os.Getpid()): "-rw-------",
	} {
		if got := mode(t, path); got != want {
			t.Errorf("%s: %s; want %s", path, got, want)
		}
	}
	if text, err := os.ReadFile(state + "/db/schema"); string(text) != "10" {
		t.Errorf("schema is %q, %v", text, err)
	}
	if link, err := os.Readlink(state + "/gcroots/profiles"); link != state+"/profiles" {
		t.Errorf("profiles link to %q, %v", link, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(state+"/db/reserved", &st); err != nil || st.Size != 100_000 || st.Blocks*512 < st.Size {
		t.Errorf("reserved %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	if err := os.Remove(state + "/gcroots/profiles"); err != nil {
		t.Fatal(err)
	}
	openStore(t, cfg)
	if _, err := os.Lstat(state + "/gcroots/profiles"); err == nil {
		t.Error("a removed link to the profiles came back")
	}
}

func TestJournalModes(t *testing.T) {
	for _, wal := range []bool{true, false} {
		cfg := testConfig(t)
		cfg.WAL, cfg.FsyncMetadata = wal, true
		s := openStore(t, cfg)
		mustRegister(t, s, fakeInfo(fakePath(s.dir, 1, "x")))
		got, _, err := s.db.text("journal-mode")
		if want := map[bool]string{true: "wal", false: "truncate"}[wal]; got != want || err != nil {
			t.Errorf("journal mode %q, %v; want %q", got, err, want)
		}
		cfg.WAL = !wal // may be changed at any time
		s.Close()
		if ok, err := openStore(t, cfg).IsValid(fakePath(s.dir, 1, "x")); !ok || err != nil {
			t.Errorf("after the change of mode: %v, %v", ok, err)
		}
	}
}

// wreck opens and closes a store of one path, then lets spoil at its files.
func wreck(t *testing.T, spoil func(cfg *Config, db string)) error {
	t.Helper()
	cfg := testConfig(t)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		mustRegister(t, s, fakeInfo(fakePath(s.dir, n, strings.Repeat("x", 200))))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	spoil(&cfg, cfg.StateDir+"/db/db.sqlite")
	s, err = Open(cfg)
	if err == nil {
		defer s.Close()
		_, err = s.AllValid()
	}
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	write := func(name, text string) func(*Config, string) {
		return func(cfg *Config, db string) { must(t, os.WriteFile(filepath.Dir(db)+"/"+name, []byte(text), 0o644)) }
	}
	for name, tc := range map[string]struct {
		spoil func(cfg *Config, db string)
		want  string
	}{
		"newer schema":   {write("schema", "11"), "current Nix store schema is version 11, but I only support 10"},
		"older schema":   {write("schema", "5"), "schema version 5, which is too old"},
		"schema with LF": {write("schema", "10\n"), "/db/schema' is corrupt"},
		"empty schema":   {write("schema", ""), "/db/schema' is corrupt"},
		"no database":    {write("db.sqlite", "no database, and long enough to be looked at by whoever opens it"), "db.sqlite' is damaged: file is not a database"},
		"empty database": {write("db.sqlite", ""), "db.sqlite' is damaged: "},
		"other store": {
			func(cfg *Config, _ string) { cfg.Dir, cfg.RealDir = "/else/where", string(cfg.Dir) },
			"/db/db.sqlite' belongs to the store directory '",
		},
		"missing database": {
			func(_ *Config, db string) { must(t, os.Remove(db)) },
			"db.sqlite': unable to open database file",
		},
		"cut database": {
			func(_ *Config, db string) { must(t, os.Truncate(db, 5*4096)) },
			"db.sqlite' is damaged: ",
		},
		"symlinked store": {
			func(cfg *Config, _ string) {
				link := filepath.Dir(string(cfg.Dir)) + "/link"
				must(t, os.Symlink(filepath.Dir(string(cfg.Dir)), link))
				cfg.RealDir = link + "/store"
			},
			"/link' is a symlink; this is not allowed for the Nix store and its parent directories",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := wreck(t, tc.spoil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v; want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %v", err)
			}
		})
	}
	err := wreck(t, func(cfg *Config, _ string) {
		link := filepath.Dir(string(cfg.Dir)) + "/link"
		must(t, os.Symlink(filepath.Dir(string(cfg.Dir)), link))
		cfg.RealDir, cfg.AllowSymlinked = link+"/store", true
	})
	if err != nil {
		t.Errorf("a symlinked store that was allowed: %v", err)
	}
}

// rawDB runs statements as another program would.
func rawDB(t *testing.T, file string, statements ...string) {
	t.Helper()
	db, err := (&sqlite3.SQLiteDriver{}).Open(file)
	must(t, err)
	for _, q := range statements {
		if _, err := db.(*sqlite3.SQLiteConn).Exec(q, nil); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	must(t, db.Close())
}

func TestMigration(t *testing.T) {
	for from := 6; from <= 9; from++ {
		cfg := testConfig(t)
		a, b := fakePath(cfg.Dir, 1, "a"), fakePath(cfg.Dir, 2, "b")
		must(t, os.MkdirAll(cfg.StateDir+"/db", 0o755))
		statements := []string{
			`create table ValidPaths (id integer primary key autoincrement not null, path text unique not null,
			  hash text not null, registrationTime integer not null, deriver text, narSize integer)`,
			`create table Refs (referrer integer not null, reference integer not null, primary key (referrer, reference),
			  foreign key (referrer) references ValidPaths(id) on delete cascade,
			  foreign key (reference) references ValidPaths(id) on delete restrict)`,
			`create trigger DeleteSelfRefs before delete on ValidPaths begin
			  delete from Refs where referrer = old.id and reference = old.id; end`,
			`create table DerivationOutputs (drv integer not null, id text not null, path text not null, primary key (drv, id),
			  foreign key (drv) references ValidPaths(id) on delete cascade)`,
			`create table FailedPaths (path text primary key not null, time integer not null)`,
			`create table Elsewhere (x)`,
			`insert into FailedPaths values ('` + string(b) + `', 77)`,
			`insert into ValidPaths (path, hash, registrationTime) values ('` + string(a) + `', 'sha256:` + strings.Repeat("0", 64) + `', 5)`,
		}
		if from >= 8 {
			statements = append(statements, `alter table ValidPaths add column ultimate integer`, `alter table ValidPaths add column sigs text`)
		}
		rawDB(t, cfg.StateDir+"/db/db.sqlite", statements...)
		must(t, os.WriteFile(cfg.StateDir+"/db/schema", []byte(fmt.Sprint(from)), 0o644))

		ro := cfg
		ro.ReadOnly = true
		if _, err := Open(ro); !errors.Is(err, ErrReadOnly) {
			t.Errorf("schema %d, reading only: %v", from, err)
		}
		s := openStore(t, cfg)
		info, err := s.Info(a)
		if err != nil || !info.NarHash.IsZero() || info.NarSize != 0 || info.Registered.Unix() != 5 {
			t.Errorf("schema %d: %+v, %v", from, info, err)
		}
		fresh := fakeInfo(b, a)
		fresh.Ultimate, fresh.Sigs = true, []string{"k:s"}
		mustRegister(t, s, fresh)
		if info, err := s.Info(b); err != nil || !info.Ultimate || !slices.Equal(info.Sigs, fresh.Sigs) {
			t.Errorf("schema %d: %+v, %v", from, info, err)
		}
		if text, err := os.ReadFile(cfg.StateDir + "/db/schema"); string(text) != "10" {
			t.Errorf("schema %d became %q, %v", from, text, err)
		}
		// what others have remembered of failed builds is theirs
		rawDB(t, cfg.StateDir+"/db/db.sqlite", "create temp table kept (n integer check (n = 1))",
			"insert into kept select count(*) from FailedPaths where path = '"+string(b)+"' and time = 77")
		openStore(t, cfg) // as any other, now
	}
}

func TestGoldenDatabases(t *testing.T) {
	for db, dump := range map[string]string{"db-2.8.sqlite": "dump-db.txt", "db-2.26.sqlite": "dump-db-2.26.txt"} {
		cfg := testConfig(t)
		cfg.RealDir, cfg.Dir = string(cfg.Dir), "/nix/store"
		const golden = "../../testdata/golden/db/"
		raw, err := os.ReadFile(golden + db)
		must(t, err)
		must(t, os.MkdirAll(cfg.StateDir+"/db", 0o755))
		must(t, os.WriteFile(cfg.StateDir+"/db/db.sqlite", raw, 0o644))
		must(t, os.WriteFile(cfg.StateDir+"/db/schema", []byte("10"), 0o644))
		s := openStore(t, cfg)
		all, err := s.AllValid()
		must(t, err)
		got, err := s.RegistrationText(all, RegistrationFormat{Hash: true, Deriver: true})
		must(t, err)
		want, err := os.ReadFile(golden + dump)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: dump differs from %s:\n%s", db, dump, got)
		}
		// and it must be possible to go on from here
		p, err := s.AddText("more", []byte(all[0]), all[:1])
		must(t, err)
		must(t, s.Invalidate(p))
	}
}

func TestUnwritable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody who may not write")
	}
	cfg := testConfig(t)
	s := openStore(t, cfg)
	mustRegister(t, s, fakeInfo(fakePath(s.dir, 1, "x")))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(string(cfg.Dir))), 0o755))
	cmd := helper(cfg, "open")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "no write access to the store: opening lock file '"+cfg.StateDir+"/db/big-lock': permission denied") {
		t.Errorf("%v: %s", err, out)
	}
	if cmd = helper(cfg, "open-read-only"); cmd != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1 valid\n" {
			t.Errorf("reading only: %v: %s", err, out)
		}
	}
}

// The test program is also the other process of these tests.
const (
	helperTask = "GOBUILD_STORE_TEST_TASK"
	helperDir  = "GOBUILD_STORE_TEST_DIR"
)

func helper(cfg Config, task string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), helperTask+"="+task, helperDir+"="+filepath.Dir(cfg.StateDir))
	return cmd
}

func TestMain(m *testing.M) {
	if task := os.Getenv(helperTask); task != "" {
		dir := os.Getenv(helperDir)
		cfg := Config{Dir: storepath.Dir(dir + "/store"), StateDir: dir + "/var", WAL: true}
		if err := helperMain(cfg, task); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helperMain(cfg Config, task string) error {
	cfg.ReadOnly = task == "open-read-only"
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	if who, ok := strings.CutPrefix(task, "register-"); ok {
		return registerMany(s, who)
	}
	all, err := s.AllValid()
	fmt.Println(len(all), "valid")
	return err
}

const perProcess = 200

// registerMany registers paths that others register at the same time, and
// some of its own that refer to them.
func registerMany(s *Store, who string) error {
	for n := range perProcess {
		shared := fakePath(s.dir, n, "shared")
		own := fakePath(s.dir, n, "own-"+who)
		if err := s.Register([]Info{fakeInfo(own, shared, own), fakeInfo(shared)}); err != nil {
			return err
		}
	}
	return nil
}

func TestTwoProcesses(t *testing.T) {
	cfg := testConfig(t)
	a, b := helper(cfg, "register-a"), helper(cfg, "register-b") // they make the store, too
	var outA, outB bytes.Buffer
	a.Stdout, b.Stdout = &outA, &outB
	must(t, a.Start())
	must(t, b.Start())
	if err := errors.Join(a.Wait(), b.Wait()); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &outA, &outB)
	}
	s := openStore(t, cfg)
	all, err := s.AllValid()
	if err != nil || len(all) != 3*perProcess {
		t.Fatalf("%d paths valid, %v", len(all), err)
	}
	users, err := s.Referrers(fakePath(s.dir, 7, "shared"))
	if err != nil || len(users) != 2 {
		t.Errorf("referrers %v, %v", users, err)
	}
}

// A busy database must never reach the caller.
func TestBusyIsRetried(t *testing.T) {
	cfg := testConfig(t)
	cfg.Busy = time.Millisecond
	other := openStore(t, cfg)
	naps, warned := 0, 0
	cfg.Warn = func(string) { warned++ }
	cfg.Sleep = func(time.Duration) {
		if naps++; naps == 3 {
			must(t, other.db.run("rollback"))
		}
	}
	s := openStore(t, cfg)
	must(t, other.db.run("begin-immediate"))
	mustRegister(t, s, fakeInfo(fakePath(s.dir, 1, "x")))
	if naps != 3 || warned != 1 {
		t.Errorf("slept %d times, warned %d times", naps, warned)
	}
	if ok, err := other.IsValid(fakePath(s.dir, 1, "x")); !ok || err != nil {
		t.Errorf("not registered: %v, %v", ok, err)
	}
}
