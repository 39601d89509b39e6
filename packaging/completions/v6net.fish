# v6net completes its own command line (COMP_LINE).
function __complete_v6net
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    /usr/bin/v6net
end
complete -f -c v6net -a "(__complete_v6net)"
