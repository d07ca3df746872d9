"""Attacks on the verdict through the result channel: forged, broken and endless messages.

The expected result is a number that only the judge knows, so a pass of the secure verifier is a forgery.
"""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import EVERYWHERE, Attack, body

_G = "result channel"

_FRAME = """
        def frame(message):
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            return struct.pack('>Q', len(data)) + data
        def everywhere(data):
            for fd in range(256):
                try:
                    os.write(fd, data)
                except OSError:
                    pass
"""


def _channel(name: str, text: str, wall_s: float = 5.0) -> Attack:
    return Attack(_G, name, body(_FRAME + text), EVERYWHERE, wall_s=wall_s)


ATTACKS = [
    _channel(
        "a forged pass on every descriptor",
        """
        everywhere(frame({'passed': True, 'outcome': 'passed', 'results': [[True, '']]}))
        os._exit(0)""",
    ),
    _channel(
        "an empty list of results",
        """
        everywhere(frame({'results': []}))
        os._exit(0)""",
    ),
    _channel(
        "too many results",
        """
        everywhere(frame({'results': [[1, '']] * 1000}))
        os._exit(0)""",
    ),
    _channel(
        "results of the wrong shape",
        """
        everywhere(frame({'results': [{'passed': True}]}))
        os._exit(0)""",
    ),
    _channel(
        "two answers, the second a forged one",
        """
        everywhere(frame({'results': [[0, '']]}) + frame({'results': [[True, ''], [True, '']]}))
        os._exit(0)""",
    ),
    _channel(
        "JSON that is not a message",
        """
        everywhere(frame(b'[1, 2, 3]'))
        os._exit(0)""",
    ),
    _channel(
        "bytes that are not JSON",
        """
        everywhere(frame(bytes(range(256))))
        os._exit(0)""",
    ),
    _channel(
        "JSON nested a million deep",
        """
        everywhere(frame(b'[' * 1000000))
        os._exit(0)""",
    ),
    _channel(
        "a number of a million digits",
        """
        everywhere(frame(b'{"results": [[' + b'9' * 1000000 + b', ""]]}'))
        os._exit(0)""",
    ),
    _channel(
        "a length of 2**63",
        """
        everywhere(struct.pack('>Q', 1 << 63))
        time.sleep(0.2)
        os._exit(0)""",
    ),
    _channel(
        "half a frame, then silence",
        """
        everywhere(struct.pack('>Q', 1000) + b'{')
        time.sleep(60)""",
        0.4,
    ),
    _channel(
        "one byte at a time",
        """
        for byte in frame({'results': [[True, '']]}):
            os.write(3, bytes([byte]))
            time.sleep(0.001)
        os._exit(0)""",
    ),
    _channel(
        "a forged infrastructure error",
        """
        everywhere(b'E confinement of a submission failed')
        os._exit(70)""",
    ),
    _channel(
        "a forged ready byte and a second request",
        """
        everywhere(b'R' * 64)
        os._exit(0)""",
    ),
    _channel(
        "every descriptor closed, process kept alive",
        """
        os.closerange(0, 1024)
        time.sleep(60)""",
    ),
    _channel(
        "the channel replaced by another file",
        """
        os.dup2(os.open('/dev/null', os.O_RDWR), 3)
        return 1""",
    ),
    _channel(
        "a thread that writes between the runner's bytes",
        """
        def spam():
            while True:
                everywhere(frame({'results': [[True, '']]}))
        threading.Thread(target=spam, daemon=True).start()
        time.sleep(0.05)
        return 1""",
    ),
    _channel(
        "an atexit hook that writes a forged answer",
        """
        import atexit
        atexit.register(everywhere, frame({'results': [[True, '']]}))
        sys.exit(0)""",
    ),
    _channel(
        "sixteen megabytes of empty objects",
        """
        everywhere(frame(b'{"passed":true,"x":[' + b'{},' * ((16 << 20) // 3 - 20) + b'0]}'))
        time.sleep(5)""",
        1.0,
    ),
    _channel(
        "a result of 64 MB",
        """
        return 'x' * (64 << 20)""",
    ),
    _channel(
        "frames walked up to the runner's request",
        """
        frame_ = sys._getframe()
        while frame_ is not None:
            for value in frame_.f_locals.values():
                if type(value).__name__ == 'TestCase' or (isinstance(value, dict) and 'cases' in value):
                    return 'escaped'
            frame_ = frame_.f_back
        return 'nothing there'""",
    ),
    _channel(
        "every object searched for the expected result",
        """
        import gc
        held = [one for one in gc.get_objects() if isinstance(one, dict) and 'expected' in one and 'cases' in one]
        return 'escaped' if held else 'nothing there'""",
    ),
    _channel(
        "the runner's modules searched for cases",
        """
        runner = sys.modules.get('foreshock.jobs.verify.runner')
        for name, value in vars(runner).items() if runner else ():
            if isinstance(value, (list, tuple)) and value and type(value[0]).__name__ == 'TestCase':
                return 'escaped'
        return 'nothing there'""",
    ),
    Attack(
        _G,
        "forged forms: no text, names that are lists, a fraction over nothing, keys that collide",
        body(
            _FRAME
            + """
        form = (
            ['o'],
            ['x', [[]] * 9, {}],
            ['q', '1', '0'],
            ['q', '7' * 5001, '3' * 5002],
            ['s', [['i', hex(i * ((1 << 61) - 1))] for i in range(1, 400)]],
            [[], {}, None, ['l', 5], ['d', [[1]]], ['l']],
        )[world['phase']]
        everywhere(frame({'results': [[form, '', form]]}))
        os._exit(0)"""
        ),
        EVERYWHERE,
        phases=6,
    ),
    _channel(
        "an alarm every microsecond while the answer is sent",
        """
        def ring(*_):
            raise SystemExit(0)
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 1e-6)
        return 1""",
    ),
    _channel(
        "signal numbers and tracebacks written into the channel",
        """
        import faulthandler
        os.set_blocking(3, False)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.set_wakeup_fd(3)
        os.kill(os.getpid(), signal.SIGUSR1)
        faulthandler.dump_traceback(3)
        faulthandler.dump_traceback_later(0.05, repeat=True, file=3, exit=True)
        time.sleep(0.2)
        return 1""",
    ),
    _channel(
        "the channel read for more than the request",
        """
        os.set_blocking(3, False)
        try:
            return 'escaped' if os.read(3, 1 << 16) else 'closed'
        except BlockingIOError:
            return 'nothing there'""",
    ),
    _channel(
        "descriptors that nobody meant to hand over",
        """
        found = []
        for fd in range(1024):
            try:
                status = os.fstat(fd)
            except OSError:
                continue
            if fd > 3 or (fd < 3 and status.st_rdev != os.makedev(1, 3)):
                found.append(fd)
        return f'escaped: {found}' if found else 'none'""",
    ),
    _channel(
        "JSON that only Python reads (NaN, Infinity), keys given twice",
        """
        everywhere(frame(b'{"results": [[1, ""]], "fatal": null, "results": [[NaN, ""], [-Infinity, "1"]]}'))
        os._exit(0)""",
    ),
    _channel(
        "descriptors sent along with an answer",
        """
        import array
        pair = socket.socketpair()
        rights = array.array('i', [one.fileno() for one in pair] * 50)
        channel, answer = socket.socket(fileno=3), frame({'results': [[1, '']]})
        channel.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os._exit(0)""",
    ),
]
