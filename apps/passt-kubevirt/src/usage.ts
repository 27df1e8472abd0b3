export const USAGE = `usage: passt-kubevirt COMMAND [OPTION...]

Adds the passt network binding to KubeVirt, looks after it, and takes it away.

Commands:
  install      add it, or change what is there to what is asked for; undone if a step fails
  status       what is there, and whether it is ready
  doctor       what is wrong, and how to mend it
  uninstall    remove what install has made, from the nodes too

Which cluster:
  --kubeconfig FILE      instead of $KUBECONFIG and ~/.kube/config
  --context NAME         a context of it, instead of the current one
  -n, --namespace NAME   the namespace of KubeVirt, if there are several; everything of ours is there

install:
  --image IMAGE          the image of the binding (required)
  --cni-image IMAGE      the image with the CNI plugin, if not the same
  --binding NAME         what virtual machines call it (passt)
  --preset NAME          where CNI plugins are: kubernetes, k3s, rke2, k0s, microk8s, openshift
  --cni-dir DIR          another folder of the nodes
  --pull-secret NAME     a Secret for pulling the CNI plugin's image; can be repeated
  --ping-group GID       who may send echo requests in pods (107, virt-launcher's group)
  --compute-memory SIZE  memory for passt in the machine's own container (engine by libvirt: 250Mi)
  --sidecar-memory SIZE  memory of all sidecars of virtual machines
  --sidecar-cpu AMOUNT   processor time of all sidecars of virtual machines
  --protocol NAME        hooks, or plugin: KubeVirt 1.9 and Kubernetes 1.36; not tried on a cluster (hooks)
  --migration            let KubeVirt migrate machines with this binding; their connections are lost
  --force                take over what somebody else has set

install, uninstall:
  --dry-run              show what would change, as the API server says it, and change nothing
  --timeout SECONDS      how long to wait for nodes and KubeVirt (300)

uninstall:
  --force                even though virtual machines use it

status, doctor:
  --json                 for programs

  -h, --help             this text
  --version              the version

Exit status: 0 done, or all is well; 1 it failed and is undone, or something is not as it should be; 2 wrong
arguments; 3 the API server is out of reach or does not allow it; 4 the cluster lacks something; 5 somebody else
has set what would be changed; 6 it failed and could not be undone; 7 virtual machines use what would be removed.
`
