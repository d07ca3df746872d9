"""Attacks through system calls that a submission has no use for, by their numbers."""

from __future__ import annotations

from foreshock.jobs.verify.attacks.attack import ISOLATED, Attack, body

_G = "system calls"

_Calls = dict[str, tuple[int, int, str]]
"""Numbers on x86_64 and aarch64, and arguments, of each call."""

_EACH: _Calls = {
    "ptrace": (101, 117, "16, world['victim'], 0, 0"),
    "process_vm_readv": (310, 270, "world['victim'], 0, 0, 0, 0, 0"),
    "pidfd_open": (434, 434, "world['victim'], 0"),
    "unshare": (272, 97, "0x10000000"),
    "setns": (308, 268, "0, 0"),
    "mount": (165, 40, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "open_tree": (428, 428, "-100, b'/', 1"),
    "fsopen": (430, 430, "b'tmpfs', 0"),
    "bpf": (321, 280, "5, 0, 0"),
    "io_uring_setup": (425, 425, "1, ctypes.create_string_buffer(256)"),
    "userfaultfd": (323, 282, "1"),
    "perf_event_open": (298, 241, "ctypes.create_string_buffer(128), 0, -1, -1, 0"),
    "add_key": (248, 217, "b'user', b'foreshock', b'x', 1, -3"),
    "keyctl": (250, 219, "0, -3, 1"),
    "memfd_create": (319, 279, "b'x', 0"),
    "personality": (135, 92, "0x0040000"),
    "clone3": (435, 435, "ctypes.create_string_buffer(88), 88"),
    "sched_setscheduler": (144, 119, "0, 1, ctypes.byref(ctypes.c_int(1))"),
    "sethostname": (170, 161, "b'x', 1"),
    "finit_module": (313, 273, "0, b'', 0"),
    "landlock or seccomp of its own": (317, 277, "1, 0, 0"),
}
_ON_OTHERS: _Calls = {
    "pidfd_send_signal": (424, 424, "-1, 0, 0, 0"),
    "pidfd_getfd": (438, 438, "-1, 0, 0"),
    "process_madvise": (440, 440, "-1, 0, 0, 21, 0"),
    "process_mrelease": (448, 448, "-1, 0"),
    "process_vm_writev": (311, 271, "world['victim'], 0, 0, 0, 0, 0"),
    "kcmp": (312, 272, "world['victim'], world['judge'], 1, 0, 0"),
    "move_pages": (279, 239, "world['victim'], 0, 0, 0, 0, 0"),
    "migrate_pages": (256, 238, "world['victim'], 0, 0, 0"),
    "get_robust_list": (274, 100, "world['victim'], 0, 0"),
    "rt_sigqueueinfo": (129, 138, "world['victim'], 0, bytes(128)"),
    "rt_tgsigqueueinfo": (297, 240, "world['victim'], world['victim'], 0, bytes(128)"),
    "tkill": (200, 130, "world['victim'], 0"),
    "setpgid": (109, 154, "0, 0"),
    "sched_setattr": (314, 274, "0, bytes(48), 0"),
}
_ON_THE_MACHINE: _Calls = {
    "clock_settime": (227, 112, "0, bytes(16)"),
    "clock_adjtime": (305, 266, "0, bytes(256)"),
    "adjtimex": (159, 171, "bytes(256)"),
    "settimeofday": (164, 170, "0, 0"),
    "syslog": (103, 116, "10, 0, 0"),
    "acct": (163, 89, "b'/none'"),
    "swapoff": (168, 225, "b'/none'"),
    "reboot": (169, 142, "0, 0, 0, 0"),
    "kexec_load": (246, 104, "0, 0, 0, -1"),
    "delete_module": (176, 106, "b'none', 0"),
    "quotactl": (179, 60, "0, 0, 0, 0"),
    "setdomainname": (171, 162, "b'x', 1"),
    "open_by_handle_at": (304, 265, "-1, 0, 0"),
    "name_to_handle_at": (303, 264, "-100, b'/', bytes(64), bytes(8), 0"),
    "vhangup": (153, 58, ""),
    "sync": (162, 81, ""),
    "set_mempolicy": (238, 237, "0, 0, 0"),
}
_ON_PAGES: _Calls = {
    "readahead": (187, 213, "0, 0, 0"),
    "sync_file_range": (277, 84, "0, 0, 0, 0"),
    "remap_file_pages": (216, 234, "0, 0, 0, 0, 0"),
    "fallocate": (285, 47, "0, 0, 0, 0"),
    "splice": (275, 76, "0, 0, 0, 0, 0, 0"),
    "tee": (276, 77, "0, 0, 0, 0"),
    "vmsplice": (278, 75, "0, 0, 0, 0"),
    "mlock": (149, 228, "0, 0"),
    "mlockall": (151, 230, "4"),
    "memfd_secret": (447, 447, "0"),
    "msgget": (68, 186, "4321, 0o1666"),
    "semget": (64, 190, "4321, 1, 0o1666"),
    "sendmsg": (46, 211, "3, 0, 0"),
    "recvmsg": (47, 212, "3, 0, 0"),
    "sendmmsg": (307, 269, "3, 0, 0, 0"),
}
_PASSED_ON = (436, 439, 441)
"""New calls that the filter allows: close_range, faccessat2, epoll_pwait2."""


def _reach(name: str, calls: _Calls) -> Attack:
    """An attack that succeeds where one of these calls reaches the kernel."""
    attempts = "".join(
        f"""
        ctypes.set_errno(0)
        libc.syscall({x86} if x86_64 else {arm}{arguments and ", " + arguments})
        reached += [{call!r}] * (ctypes.get_errno() not in (1, 38))"""
        for call, (x86, arm, arguments) in calls.items()
    )
    code = f"""
        libc, x86_64, reached = ctypes.CDLL(None, use_errno=True), os.uname().machine == 'x86_64', []{attempts}
        return f'escaped: {{reached}}' if reached else 'stopped'"""
    return Attack(_G, name, body(code), run_on=ISOLATED)


ATTACKS = [
    *(_reach(name, {name: call}) for name, call in _EACH.items()),
    _reach("calls that name another process", _ON_OTHERS),
    _reach("calls that change the machine (clocks, modules, quotas, accounting)", _ON_THE_MACHINE),
    _reach("calls that move or pin pages, queues and messages", _ON_PAGES),
    Attack(
        _G,
        "every number behind the newest that the filter knows",
        body(f"""
        libc, reached = ctypes.CDLL(None, use_errno=True), []
        for number in range(424, 640):
            ctypes.set_errno(0)
            if number not in {_PASSED_ON}:
                libc.syscall(number, -1, -1, -1, -1, -1, -1)
                reached += [number] * (ctypes.get_errno() not in (1, 38))
        return f'escaped: {{reached}}' if reached else 'stopped'"""),
        run_on=ISOLATED,
    ),
    Attack(
        _G,
        "settings of a process that outlive or shield it (prctl)",
        body("""
        libc, reached = ctypes.CDLL(None, use_errno=True), []
        # death signal, dumpable, timer slack, machine checks, memory map, subreaper, huge pages, core scheduling,
        # merging, tracers, securebits, ambient capabilities
        for option in (1, 4, 29, 33, 35, 36, 41, 62, 67, 0x59616d61, 28, 47):
            ctypes.set_errno(0)
            if libc.prctl(option, 0, 0, 0, 0) == 0 or ctypes.get_errno() != 1:
                reached.append(option)
        return f'escaped: {reached}' if reached else 'stopped'"""),
    ),
]
