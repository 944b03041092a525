# What ends up in the log file and on the terminal.
lib: with lib; {
  logStreams = run "log-streams" "echo one; echo two >&2; echo three; echo x > $out" { };
  logEmpty = run "log-empty" "echo x > $out" { };
  logNoNewline = run "log-no-newline" "printf 'no newline at the end'; echo x > $out" { };
  logCarriageReturn = run "log-carriage-return" "printf 'progress 10%%\\rprogress 20%%\\rend\\nabcdef\\rxy\\n\\r\\n'; echo x > $out" { };
  logLong = run "log-long" "i=0; while [ $i -lt 5000 ]; do echo \"line $i: the quick brown fox jumps over the lazy dog, and again\"; i=$((i+1)); done; echo x > $out" { };
  logLongLine = run "log-long-line" "head -c 200000 /dev/zero | tr '\\000' 'l'; echo; echo x > $out" { };
  logBinary = run "log-binary" "printf 'bytes \\000\\001\\377\\376\\033[31mred\\033[0m\\tx\\n'; echo x > $out" { };
  logPhases = run "log-phases" ''
    echo '@nix {"action":"setPhase","phase":"unpackPhase"}'; echo unpacking
    echo '@nix {"action":"setPhase","phase":"buildPhase"}' >&2; echo building; echo x > $out
  '' { };
  logMessages = run "log-messages" ''
    echo '@nix {"action":"msg","level":0,"msg":"a message from the builder"}'
    echo '@nix {"action":"msg","level":7,"msg":"a quiet message"}'
    echo '@nix {"action":"start","id":1,"level":3,"parent":0,"text":"downloading it","type":101,"fields":["http://example.org"]}'
    echo '@nix {"action":"result","id":1,"type":105,"fields":[1,2,0,0]}'
    echo '@nix {"action":"stop","id":1}'; echo plain; echo x > $out
  '' { };
  logBadJson = run "log-bad-json" "echo '@nix {not json'; echo '@nix'; echo ' @nix {}'; echo x > $out" { };
  logFails = run "log-fails" "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done; exit 2" { };
  logTooLong = run "log-too-long" "while :; do echo 0123456789012345678901234567890123456789; done" { };
}
