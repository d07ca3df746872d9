# Sourced by the scripts beside it: where this machine gets its Debian packages from.

# The base URI of the machine's own Debian mirror, from its apt configuration, so that no script names a host.
debian_mirror() {
    local uri
    # shellcheck disable=SC2016  # $(SITE) is apt's own
    uri=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
        | sort -u | head -n 1)
    if [ -z "$uri" ]; then
        echo "no Debian mirror in this machine's apt configuration; run 'apt-get update' first," >&2
        echo "or set FORESHOCK_DEBIAN_MIRROR to a mirror's base URI" >&2
        return 1
    fi
    echo "$uri"
}

# shellcheck disable=SC2034  # for the scripts that source this
mirror=${FORESHOCK_DEBIAN_MIRROR:-$(debian_mirror)}
