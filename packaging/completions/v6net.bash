# v6net completes its own command line (COMP_LINE).
complete -C /usr/bin/v6net v6net
