/* A shared file system as sites have them, for LD_PRELOAD: below ODD_FS_ROOT folders cannot be synced, hard links do
   not exist, O_DIRECT is refused, and times are whole two seconds of a clock that is ahead. ODD_FS_COUNT names a file
   to which each refusal adds a letter, so that a test can see that it was exercised: f, l, d, and t for the first time
   that was changed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AHEAD_S 7

static int inside(const char *path) {
    const char *root = getenv("ODD_FS_ROOT");
    char full[4096];
    if (!root || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full)) return 0;
        path = full; /* relative paths: the folder tells */
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int inside_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return inside(path);
}

static int inside_at(int dir, const char *path) {
    if (path && path[0] == '/') return inside(path);
    return dir == AT_FDCWD ? inside(path ? path : "") : inside_fd(dir);
}

static void count(char what) {
    const char *path = getenv("ODD_FS_COUNT");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int saved = errno, fd = path ? real(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (fd >= 0) {
        if (write(fd, &what, 1) < 0) { /* only a count */ }
        close(fd);
    }
    errno = saved;
}

static void change(struct stat *found) {
    static int told;
    found->st_mtim.tv_sec = (found->st_mtim.tv_sec + AHEAD_S) / 2 * 2;
    found->st_mtim.tv_nsec = 0;
    if (!told++) count('t');
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    int (*look)(int, struct stat *) = dlsym(RTLD_NEXT, "fstat");
    struct stat found;
    if (inside_fd(fd) && look(fd, &found) == 0 && S_ISDIR(found.st_mode)) {
        count('f');
        errno = EINVAL;
        return -1;
    }
    return real(fd);
}

static int no_link(void) {
    count('l');
    errno = EOPNOTSUPP;
    return -1;
}

int link(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "link");
    return inside(to) ? no_link() : real(from, to);
}

int linkat(int old_dir, const char *from, int new_dir, const char *to, int flags) {
    int (*real)(int, const char *, int, const char *, int) = dlsym(RTLD_NEXT, "linkat");
    return inside_at(new_dir, to) ? no_link() : real(old_dir, from, new_dir, to, flags);
}

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...) {                                      \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                \
        va_list rest;                                                                 \
        va_start(rest, flags);                                                        \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;     \
        va_end(rest);                                                                 \
        if ((flags & O_DIRECT) && inside(path)) {                                     \
            count('d');                                                               \
            errno = EINVAL;                                                           \
            return -1;                                                                \
        }                                                                             \
        return real(path, flags, mode);                                               \
    }
OPEN(open)
OPEN(open64)

#define STAT(name)                                                                    \
    int name(const char *path, struct stat *found) {                                  \
        int (*real)(const char *, struct stat *) = dlsym(RTLD_NEXT, #name);           \
        int code = real(path, found);                                                 \
        if (code == 0 && inside(path)) change(found);                                 \
        return code;                                                                  \
    }
STAT(stat)
STAT(lstat)

int fstat(int fd, struct stat *found) {
    int (*real)(int, struct stat *) = dlsym(RTLD_NEXT, "fstat");
    int code = real(fd, found);
    if (code == 0 && S_ISREG(found->st_mode) && inside_fd(fd)) change(found);
    return code;
}

int fstatat(int dir, const char *path, struct stat *found, int flags) {
    int (*real)(int, const char *, struct stat *, int) = dlsym(RTLD_NEXT, "fstatat");
    int code = real(dir, path, found, flags);
    if (code == 0 && inside_at(dir, path)) change(found);
    return code;
}

int stat64(const char *, struct stat64 *) __attribute__((alias("stat")));
int lstat64(const char *, struct stat64 *) __attribute__((alias("lstat")));
int fstat64(int, struct stat64 *) __attribute__((alias("fstat")));
int fstatat64(int, const char *, struct stat64 *, int) __attribute__((alias("fstatat")));
